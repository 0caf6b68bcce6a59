"""Images without a registry: built by buildah, brought into the node's containerd over its loopback.

A Dockerfile is built as it is. What the machine needs to reach packages (its certificates, its pip settings) is
mounted while RUN steps run and is in no layer. Public base images that a Dockerfile starts from are replaced by the
stand-ins of `hack.testbed.images.stand_ins`, under their public names.
"""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hack.testbed.control_plane import components
from hack.testbed.errors import ClusterError
from hack.testbed.images import stand_ins
from hack.testbed.images.store import Store, bases, qualify
from hack.testbed.machine import debian, processes
from hack.testbed.machine.network import ENTER
from hack.testbed.places import Places

_LABEL = "distillery.dev/image"
_INPUTS = "distillery.dev/inputs"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The source of an image: an unmodified Dockerfile.

    Attributes:
        dockerfile: The file.
        context: The folder that its COPY steps see.
        target: The stage to build; empty means the last one.
    """

    dockerfile: Path
    context: Path
    target: str = ""


def build(places: Places, source: Source, tag: str, *, labels: Mapping[str, str] = MappingProxyType({})) -> str:
    """Build an image. Stand-ins that it starts from are made if they are missing.

    Args:
        places: Where images are kept.
        source: The Dockerfile, its context and its stage.
        tag: The name for the image; Kubernetes completes short ones, and so does this.
        labels: More labels for the image.

    Returns:
        The ID of the image.

    Raises:
        ClusterError: Nothing to build, or a step failed; the message ends with what it said.
    """
    if not source.dockerfile.is_file() or not source.context.is_dir():
        raise ClusterError(f"no file {source.dockerfile}, or no folder {source.context}")
    debian.install_missing()
    store = Store(places)
    for base in bases(source.dockerfile.read_text()):
        stand_ins.ensure(places, store, base)
    with places.lock("build"):
        options = [f"--label={name}={value}" for name, value in labels.items()]
        options += [f"--target={source.target}"] if source.target else []
        return store.bud(source.dockerfile, source.context, qualify(tag), *options)


def build_if_changed(places: Places, source: Source, tag: str, *, inputs: Iterable[Path]) -> bool:
    """Build an image unless there is one that was made from the same files.

    Args:
        places: Where images are kept.
        source: As for `build`.
        tag: Likewise.
        inputs: All files below the context that the image is made from.

    Returns:
        Whether it was built.
    """
    content = hashlib.sha256(source.target.encode())
    store = Store(places)
    for path in inputs:
        content.update(str(path.relative_to(source.context)).encode() + b"\0" + path.read_bytes())
    for base in bases(source.dockerfile.read_text()):
        content.update((store.identity(base) or "").encode())
    if store.label(qualify(tag), _INPUTS) == content.hexdigest():
        return False
    build(places, source, tag, labels={_INPUTS: content.hexdigest()})
    return True


def load(places: Places, tag: str) -> bool:
    """Bring an image, built or a stand-in, into the node under its full name. Only layers that it lacks move.

    Returns:
        Whether anything moved: not if the node has this very image.

    Raises:
        ClusterError: There is no such image, or the node does not run.
    """
    store = Store(places)
    stand_ins.ensure(places, store, qualify(tag))
    with places.lock("node"):
        return bring(places, store, qualify(tag))


def bring(places: Places, store: Store, tag: str) -> bool:
    """`load` for who holds the lock of the node and knows that the image is there."""
    identity = store.identity(tag)
    if identity is None:
        raise ClusterError(f"no image {tag}: build it first")
    former = _find_loaded(places, tag)
    if former == identity:
        return False
    started = time.monotonic()
    _start_registry(places)
    # one repository for all images: what one of them brought, the next one need not bring again
    remote = f"{components.REGISTRY}/images:{hashlib.sha256(tag.encode()).hexdigest()[:16]}"
    store.buildah("push", "-q", "--disable-compression", "--tls-verify=false", tag, f"docker://{remote}", enter=ENTER)
    _ctr(places, "pull", "--local", "--plain-http", remote)
    _ctr(places, "tag", "--force", remote, tag)
    _ctr(places, "rm", remote)
    _ctr(places, "label", tag, f"{_LABEL}={identity}")
    if former is not None:
        _forget(places, former)
    _share(places)
    _log.info("loaded %s in %.1f s", tag, time.monotonic() - started)
    return True


def _find_loaded(places: Places, tag: str) -> str | None:
    """The ID that an image of the node was loaded with."""
    found = re.search(rf"\b{_LABEL}=([0-9a-f]+)", _ctr(places, "ls", f"name=={tag}"))
    return found[1] if found else None


def _forget(places: Places, identity: str) -> None:
    """Drop the name that Kubernetes gave to an image which no tag has any more, so that its layers go."""
    images = _ctr(places, "ls")
    if f"sha256:{identity} " in images and f"{_LABEL}={identity}" not in images:
        _ctr(places, "rm", f"sha256:{identity}")


def _share(places: Places) -> None:
    """Let the registry keep the layers that containerd keeps, and in the same files: large images are large."""
    kept = places.state("containerd") / "io.containerd.content.v1.content/blobs/sha256"
    for blob in places.state("registry").glob("docker/registry/v2/blobs/sha256/*/*/data"):
        same = kept / blob.parent.name
        if not same.exists():
            blob.unlink()
        elif not same.samefile(blob):
            link = blob.with_name("link")
            link.unlink(missing_ok=True)
            link.hardlink_to(same)
            link.replace(blob)


def _start_registry(places: Places) -> None:
    registry = components.registry(places)
    processes.start(registry, places.logs)
    host, _, port = components.REGISTRY.partition(":")
    packed = "".join(f"{int(part):02X}" for part in reversed(host.split(".")))
    listening = f" {packed}:{int(port):04X} 00000000:0000 0A "
    deadline = time.monotonic() + 60
    while True:
        for process in processes.processes():
            # its loopback isn't ours, so a connection can't tell; /proc shows what its namespace listens on
            if process.mark == registry.mark and listening in Path(f"/proc/{process.pid}/net/tcp").read_text():
                return
        if time.monotonic() > deadline:
            raise ClusterError(f"the registry does not listen: {processes.tail(places.logs / 'registry.log')}")
        time.sleep(0.05)


def _ctr(places: Places, *arguments: str) -> str:
    done = subprocess.run([*components.ctr(places), "images", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"ctr images {' '.join(arguments)} failed (does the node run?): {done.stderr.strip()}")
    return done.stdout
