"""The node for tests: brought up once, and a namespace of its own for each test."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest

from tests.cluster import components, node
from tests.cluster.places import Places

needs_node = pytest.mark.skipif(
    os.environ.get("DISTILLERY_CLUSTER_TESTS") != "1",
    reason="needs a real Kubernetes, root and Go: set DISTILLERY_CLUSTER_TESTS=1 (half an hour on a new machine)",
)


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

    def wait(self, what: str, *condition: str, seconds: int = 60) -> None:
        """Wait for a condition; if it does not come, fail with all that is known of the namespace."""
        try:
            self("wait", what, f"--for={'='.join(condition)}", f"--timeout={seconds}s")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self('get', 'all,pvc')}\n{self('get', 'events')}") from None


def eventually(what: str, check: Callable[[], object], *, seconds: float = 30) -> None:
    """Wait until a check gives something true."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def places() -> Places:
    """Where the node lives."""
    return Places.from_environment()


@pytest.fixture(scope="session")
def _node(places: Places) -> None:
    node.up(places, bases=True)


@pytest.fixture
def kubectl(_node: None, places: Places, request: pytest.FixtureRequest) -> Generator[Kubectl]:
    """kubectl in a namespace for this test alone, with the restricted pod security that the project's own have."""
    name = f"test-{abs(hash(request.node.nodeid)) % 10**8}"
    made = Kubectl(places, name)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    eventually("a service account", lambda: made("get", "serviceaccount", "--output=name"))
    yield made
    made("delete", "namespace", name, "--wait=false")
