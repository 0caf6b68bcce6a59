"""Images as buildah keeps and builds them, in a store of our own."""

from __future__ import annotations

import logging
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from hack.testbed.errors import ClusterError
from hack.testbed.images import run_mounts
from hack.testbed.machine import boot, processes
from hack.testbed.places import RUN, Places

_log = logging.getLogger(__name__)


def qualify(tag: str) -> str:
    """The full name of an image, as Kubernetes completes it: ``app`` is ``docker.io/library/app:latest``."""
    name, _, reference = tag.rpartition(":")
    if not name or "/" in reference:
        name, reference = tag, "latest"
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    return f"{name}:{reference}"


def bases(dockerfile: str) -> list[str]:
    """The full names of the images that a Dockerfile starts from; its own stages and ``scratch`` are none.

    Build arguments have their defaults.
    """
    found: list[str] = []
    arguments: dict[str, str] = dict(re.findall(r"(?im)^\s*ARG\s+(\w+)=(\S+)", dockerfile))
    stages = {"scratch"}
    for image, stage in re.findall(r"(?im)^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", dockerfile):
        image = re.sub(r"\$\{(\w+)\}", lambda name: arguments[name[1]], image)
        if image.lower() not in stages:
            found.append(qualify(image))
        stages.add(stage.lower())
    return found


class Store:
    """buildah's images: a cache below the node's root, apart from any other that the machine has.

    What it knows of mounts is kept by boot: where /run is on a disk, it would believe in those of the last one.
    """

    def __init__(self, places: Places) -> None:
        self._places = places

    def buildah(self, *arguments: str, enter: Sequence[str] = (), log: Path | None = None) -> str:
        """Run buildah; with ``log``, what it says goes there.

        Raises:
            ClusterError: It failed; the message ends with what it said last.
        """
        names = self._places.buildah / "registries.conf"
        if not names.exists():
            names.parent.mkdir(parents=True, exist_ok=True)
            names.write_text('unqualified-search-registries = ["docker.io"]\nshort-name-mode = "permissive"\n')
        store = [
            f"--root={self._places.buildah}/store",
            f"--runroot={RUN}/buildah-{boot.number()}",
            "--storage-driver=overlay",
        ]
        command = [*enter, "buildah", *store, f"--registries-conf={names}", *arguments]
        if log is None:
            done = subprocess.run(command, capture_output=True, text=True)
            said, printed = done.stderr, done.stdout.strip()
        else:
            with log.open("w") as output:
                done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT)
            said, printed = f"({log})\n{processes.tail(log, 30)}", ""
        if done.returncode:
            raise ClusterError(f"buildah {arguments[0]} failed: {said}")
        return printed

    def identity(self, tag: str) -> str | None:
        """The ID of an image: the digest of its configuration, and so of all that is in it."""
        return self._inspect("{{.FromImageID}}", tag)

    def label(self, tag: str, name: str) -> str | None:
        """A label of an image; None if either isn't there."""
        return self._inspect(f'{{{{index .Docker.Config.Labels "{name}"}}}}', tag)

    def _inspect(self, template: str, tag: str) -> str | None:
        try:
            return self.buildah("inspect", "--type=image", f"--format={template}", tag) or None
        except ClusterError:
            return None

    def bud(self, dockerfile: Path, context: Path, tag: str, *options: str) -> str:
        """Build a Dockerfile whose bases are there; steps whose inputs did not change come from the cache.

        Returns:
            The ID of the image.
        """
        self.buildah("rm", "--all")  # what builds that were killed left mounted
        log = self._places.logs / f"build-{re.sub(r'[^a-z0-9.]+', '-', tag)}.log"
        log.parent.mkdir(exist_ok=True)
        identity = self._places.buildah / "built"
        started = time.monotonic()
        self.buildah(
            "bud",
            "--pull-never",
            "--isolation=chroot",  # runc would want limits raised, which takes CAP_SYS_RESOURCE
            "--format=docker",
            "--layers",
            *run_mounts.options(self._places.buildah / "mounts"),
            *options,
            f"--file={dockerfile}",
            f"--tag={tag}",
            f"--iidfile={identity}",
            str(context),
            log=log,
        )
        _log.info("built %s in %.1f s", tag, time.monotonic() - started)
        return identity.read_text().removeprefix("sha256:")
