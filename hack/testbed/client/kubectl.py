"""kubectl for tests, and patience."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

from hack.testbed.control_plane import components
from hack.testbed.places import Places


class Kubectl:
    """kubectl as administrator, in one namespace."""

    def __init__(self, places: Places, namespace: str) -> None:
        self.namespace = namespace
        self._command = [*components.kubectl(places), f"--namespace={namespace}"]

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """What a command prints.

        Raises:
            AssertionError: It failed; with what it said.
        """
        done = subprocess.run([*self._command, *arguments], input=stdin, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects."""
        self("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """An object."""
        return json.loads(self("get", kind, name, "--output=json"))

    def wait(self, what: str, *condition: str, seconds: int = 240) -> None:
        """Wait for a condition; if it does not come, fail with all that is known of the namespace."""
        try:
            self("wait", what, f"--for={'='.join(condition)}", f"--timeout={seconds}s")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self('get', 'all,pvc')}\n{self('get', 'events')}") from None


def eventually(what: str, check: Callable[[], object], *, seconds: float = 120) -> None:
    """Wait until a check gives something true."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)
