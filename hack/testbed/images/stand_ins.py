"""Stand-ins for the public images that the project and the node start from, made from Debian packages.

Each is made from what is in its folder below ``recipes`` and carries the key of it as a label, so that a change of a
recipe makes it again, and all that is made from it.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from hack.testbed.errors import ClusterError
from hack.testbed.images import run_mounts
from hack.testbed.images.store import Store, bases
from hack.testbed.machine import mounts
from hack.testbed.places import Places

RECIPES = Path(__file__).parent / "recipes"
_LABEL = "distillery.dev/recipe"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A public image, and what its stand-in is made from."""

    tag: str
    folder: str
    """Below ``recipes``: a Dockerfile with its context, or for a Debian suite the files to lay over it."""
    suite: str = ""
    """A Debian release to start from, instead of a Dockerfile."""
    program: str = ""
    """A program of the node that the Dockerfile copies."""


NODE = (
    StandIn(tag="registry.k8s.io/pause:3.10", folder="pause"),
    StandIn(tag="registry.k8s.io/coredns/coredns:v1.15.0", folder="coredns", program="coredns"),
)
"""What the node itself needs."""

_DEBIAN = (
    StandIn(tag="docker.io/library/debian:bookworm-slim", folder="debian", suite="bookworm"),
    StandIn(tag="docker.io/library/debian:trixie-slim", folder="debian", suite="trixie"),
)

BASES = (
    StandIn(tag="docker.io/library/python:3.11-slim", folder="python"),
    StandIn(tag="docker.io/pgvector/pgvector:pg17", folder="pgvector"),
)
"""What Dockerfiles and charts of the project name."""

_ALL = {stand_in.tag: stand_in for stand_in in (*NODE, *_DEBIAN, *BASES)}


def ensure(places: Places, store: Store, tag: str) -> None:
    """Make the stand-in for a public image, unless it is there. Other images are left to those who built them.

    Raises:
        ClusterError: It can't be made.
    """
    stand_in = _ALL.get(tag)
    if stand_in is not None and store.label(tag, _LABEL) != _key(places, stand_in):
        with places.lock("build"):
            _make(places, store, stand_in)


def _make(places: Places, store: Store, stand_in: StandIn) -> None:
    tag, key = stand_in.tag, _key(places, stand_in)
    if store.label(tag, _LABEL) == key:
        return
    _log.info("making the stand-in for %s", tag)
    started = time.monotonic()
    dockerfile = RECIPES / stand_in.folder / "Dockerfile"
    if not stand_in.suite:
        for base in bases(dockerfile.read_text()):
            _make(places, store, _ALL[base])
    work = places.root / "work"
    _clear(work)  # one that was killed may have left mounts in it
    work.mkdir()
    if stand_in.suite:
        _bootstrap(store, stand_in, key, work)
    else:
        context = work / "context"
        shutil.copytree(dockerfile.parent, context)
        if stand_in.program:
            shutil.copy(places.program(stand_in.program), context / stand_in.program)
        for source in context.glob("*.c"):
            _run("gcc", "-O2", "-static", "-s", "-o", str(source.with_suffix("")), str(source))
        store.bud(dockerfile, context, tag, f"--label={_LABEL}={key}")
    _clear(work)
    _log.info("made %s in %.0f s", tag, time.monotonic() - started)


def _clear(work: Path) -> None:
    mounts.release(work)
    if work.exists():
        shutil.rmtree(work)


def _key(places: Places, stand_in: StandIn) -> str:
    """Of all that the image is made from: its files, its suite or its bases, its program."""
    folder = RECIPES / stand_in.folder
    content = hashlib.sha256(f"{stand_in.suite} {stand_in.program and places.program(stand_in.program)}".encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    if not stand_in.suite:
        for base in bases((folder / "Dockerfile").read_text()):
            content.update(_key(places, _ALL[base]).encode())
    return content.hexdigest()[:16]


_LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt", "var/log")


def _bootstrap(store: Store, stand_in: StandIn, key: str, work: Path) -> None:
    root, archive = work / "root", work / "root.tar"
    # ca-certificates: the public image lacks them, but the machine's own are mounted over them during a build
    _run("debootstrap", "--variant=minbase", "--include=ca-certificates", stand_in.suite, str(root))
    for folder in _LEFT_OUT:
        for path in [path for path in (root / folder).rglob("*") if path.is_symlink() or path.is_file()]:
            if path.name != "copyright":
                path.unlink()  # and not the folders: apt and others expect theirs
    shutil.copytree(RECIPES / stand_in.folder, root, dirs_exist_ok=True)
    for name in ("etc/resolv.conf", "etc/hostname"):
        (root / name).write_text("")  # debootstrap copied the machine's own
    (root / run_mounts.INSIDE.relative_to("/")).mkdir()
    kernel = ["--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./dev/*"]
    _run("tar", "-C", str(root), *kernel, "-cf", str(archive), ".")
    container = store.buildah("from", "scratch")
    store.buildah("add", container, str(archive), "/")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    store.buildah("config", f"--env=PATH={path}", "--cmd=bash", f"--label={_LABEL}={key}", container)
    store.buildah("commit", "--quiet", "--format=docker", "--rm", container, stand_in.tag)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"{' '.join(command[:4])} failed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
