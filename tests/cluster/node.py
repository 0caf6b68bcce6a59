"""The node as a whole: bring it up from whatever is there, take it down without a trace.

`up` compares and repairs. It asks nothing of what a run before it wrote down, so it is the same command on a new
machine, on a node that runs, after everything was killed, and after a reboot.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.cluster import (
    certificates,
    components,
    debian,
    images,
    mounts,
    network,
    processes,
    programs,
    readiness,
    stand_ins,
)
from tests.cluster.api import Api
from tests.cluster.errors import ClusterError
from tests.cluster.places import DNS_SERVICE, RUN, Places
from tests.cluster.processes import Component, Process

_MANIFESTS = ("storage.yaml", "dns.yaml")
_CGROUPS = Path("/sys/fs/cgroup")
_KUBELET_LINKS = Path("/var/log/containers")  # links to the logs of containers; the path is fixed in the kubelet
_BOOT = RUN / "boot"
_log = logging.getLogger(__name__)


def up(places: Places, *, bases: bool = False) -> None:
    """Bring the node up: Ready, with working DNS and storage.

    Args:
        places: Where it lives.
        bases: Make and load the stand-ins for public base images, too.

    Raises:
        ClusterError: It can't come up; the message says what is missing and ends with the log that knows more.
    """
    started = time.monotonic()
    debian.install_missing()
    with places.locked():
        programs.build(places)
        if not network.whole() or _booted_since():
            _stop(places)
        for folder in (RUN, places.configuration, places.logs, places.volumes, places.state("kubelet")):
            folder.mkdir(parents=True, exist_ok=True)
        _BOOT.write_text(_boot())
        network.up()
        certificates.ensure(places)
        _start(places, bases=bases)
    _log.info("the node is ready after %.1f s: export KUBECONFIG=%s", time.monotonic() - started, places.kubeconfig)


def down(places: Places) -> None:
    """Stop the node. Its objects and volumes are there again at the next `up`; its containers begin anew."""
    with places.locked():
        _stop(places)


def wipe(places: Places) -> None:
    """Stop the node and forget its state; built programs and images stay."""
    with places.locked():
        _stop(places)
        for folder in ("state", "volumes", "certificates", "configuration", "logs"):
            shutil.rmtree(places.root / folder, ignore_errors=True)


def alive(places: Places) -> list[Process]:
    """Every live process of the node: its components, the shims of its containers, and what runs in them."""
    return [process for process in processes.processes() if process.mark or _is_shim(process) or _is_contained(process)]


def load(places: Places, tag: str) -> bool:
    """Bring an image, built or a stand-in, into the node; whether anything moved.

    Raises:
        ClusterError: There is no such image, or the node does not run.
    """
    with places.locked():
        store = images.Store(places)
        stand_ins.ensure(places, store, images.qualified(tag))
        return images.load(places, store, images.qualified(tag))


def build(places: Places, dockerfile: Path, context: Path, tag: str) -> str:
    """Build an unmodified Dockerfile. Stand-ins that it starts from are made if they are missing.

    Args:
        places: Where images are kept.
        dockerfile: The file.
        context: The folder that its COPY steps see.
        tag: The name for the image; Kubernetes completes short ones, and so does this.

    Returns:
        The ID of the image.

    Raises:
        ClusterError: A step failed; the message ends with what it said.
    """
    debian.install_missing()
    with places.locked():
        store = images.Store(places)
        for base in images.bases(dockerfile.read_text()):
            stand_ins.ensure(places, store, base)
        return store.bud(dockerfile, context, images.qualified(tag))


def _start(places: Places, *, bases: bool) -> None:
    api, logs = Api(places), places.logs

    def start(component: Component) -> Component:
        if processes.start(component, logs):
            _log.info("started %s", component.name)
        return component

    start(components.etcd(places))
    runtime = start(components.containerd(places))
    server = start(components.apiserver(places))
    readiness.wait("containerd is there", components.SOCKET.is_socket, runtime, logs)
    store = images.Store(places)
    for stand_in in stand_ins.NODE + (stand_ins.BASES if bases else ()):
        stand_ins.ensure(places, store, stand_in.tag)
        images.load(places, store, stand_in.tag)
    readiness.wait("the API server is ready", lambda: readiness.api_is_ready(api), server, logs)
    start(components.controller_manager(places))
    start(components.scheduler(places))
    _cgroups()
    kubelet = start(components.kubelet(places))
    proxy = start(components.proxy(places))
    start(components.provisioner(places))
    _apply(places)
    since = next(readiness.started_at(p.pid) for p in processes.processes() if p.mark == kubelet.mark)
    readiness.wait("the node is Ready", lambda: readiness.node_is_ready(api, since=since), kubelet, logs)
    readiness.wait(f"DNS answers at {DNS_SERVICE}", readiness.dns_answers, proxy, logs)


def _apply(places: Places) -> None:
    files = [word for name in _MANIFESTS for word in ("-f", str(components.MANIFESTS / name))]
    command = [*components.kubectl(places), "apply", "--server-side", "--force-conflicts", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"kubectl apply failed: {done.stderr.strip()}")


def _stop(places: Places) -> None:
    """End processes, mounts, cgroups and the network, in the order in which each lets go of the next."""
    processes.stop("kubelet", "provisioner", "proxy", "controller-manager", "scheduler", "registry")
    # nothing starts containers any more; containers before their shims, or these would report and clean up
    processes.end([process for process in processes.processes() if _is_contained(process)], seconds=0)
    processes.end([process for process in processes.processes() if _is_shim(process)], seconds=0)
    processes.stop("apiserver")
    processes.stop("containerd", "etcd")
    processes.end(alive(places), seconds=0)  # what else inherited a mark: a mount or a plugin under way
    network.down()
    mounts.release(places.root, RUN)
    shutil.rmtree(RUN, ignore_errors=True)
    for cgroup in _CGROUPS.glob(f"*/{components.CGROUP}"):
        for folder in sorted(cgroup.rglob("*/"), reverse=True):
            folder.rmdir()
        cgroup.rmdir()
    with suppress(FileNotFoundError):
        for link in _KUBELET_LINKS.iterdir():
            if link.is_symlink() and link.readlink().is_relative_to(places.root):
                link.unlink()
    with suppress(OSError):  # not ours alone
        _KUBELET_LINKS.rmdir()


def _cgroups() -> None:
    """Make the cgroup below which all containers are; the kubelet wants to find it."""
    for controller in _CGROUPS.iterdir():
        if (controller / "cgroup.procs").exists():
            (controller / components.CGROUP).mkdir(exist_ok=True)


def _is_contained(process: Process) -> bool:
    return f":/{components.CGROUP}/" in process.cgroups


def _is_shim(process: Process) -> bool:
    return process.program.startswith("containerd-shim") and str(components.SOCKET) in process.command


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def _booted_since() -> bool:
    """Whether the node was up before a reboot: where /run is on a disk, what was in it is still there."""
    return RUN.exists() and (not _BOOT.exists() or _BOOT.read_text() != _boot())


def environment(places: Places) -> dict[str, str]:
    """What a shell or a test needs to find the node and its programs."""
    return {"KUBECONFIG": str(places.kubeconfig), "PATH": f"{places.bin}:{os.environ['PATH']}"}
