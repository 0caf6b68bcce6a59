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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hack.testbed.client.api import Api, ApiError
from hack.testbed.control_plane import certificates, components, health
from hack.testbed.errors import ClusterError
from hack.testbed.images import builder, stand_ins
from hack.testbed.images.store import Store
from hack.testbed.machine import boot, debian, mounts, network, processes, programs
from hack.testbed.machine.processes import Component, Process
from hack.testbed.places import DNS_SERVICE, RUN, Places

_MANIFESTS = ("storage.yaml", "dns.yaml")
_CGROUPS = Path("/sys/fs/cgroup")
_KUBELET_LINKS = Path("/var/log/containers")  # links to the logs of containers; the path is fixed in the kubelet
_DNS_PODS = "/api/v1/namespaces/kube-system/pods"
_BOOT = RUN / "boot"
_ETCD_ALONE = "etcd-alone"
"""The store of an API server without a node. The node's own objects are none of its business."""
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
    with places.lock("node"):
        programs.build(places)
        if not network.whole() or _has_booted_since() or _is_api_server_alone():
            _stop(places)
        _prepare(places)
        _start(places, bases=bases)
    _log.info("the node is ready after %.1f s: export KUBECONFIG=%s", time.monotonic() - started, places.kubeconfig)


def up_api_server(places: Places) -> None:
    """Start etcd and the API server alone, with no objects: no controllers, no pods. A node that runs is stopped.

    Raises:
        ClusterError: One of them can't be built or does not start.
    """
    started = time.monotonic()
    debian.install_missing(debian.API_SERVER)
    with places.lock("node"):
        programs.build(places, programs.API_SERVER)
        _stop(places)
        shutil.rmtree(places.state(_ETCD_ALONE), ignore_errors=True)
        _prepare(places)
        components_of_it = [components.etcd(places, _ETCD_ALONE), components.apiserver(places)]
        for component in components_of_it:
            processes.start(component, places.logs)
        api = Api(places)
        what = "the API server is ready"
        health.wait(what, lambda: health.api_is_ready(api), components_of_it, places.logs)
    _log.info("an API server without a node is ready after %.1f s", time.monotonic() - started)


def down(places: Places) -> None:
    """Stop the node. Its objects and volumes are there again at the next `up`; its containers start again."""
    with places.lock("node"):
        _stop(places)


def wipe(places: Places) -> None:
    """Stop the node and forget its state; built programs and images stay."""
    with places.lock("node"):
        _stop(places)
        for folder in ("state", "volumes", "certificates", "configuration", "logs"):
            shutil.rmtree(places.root / folder, ignore_errors=True)


def alive() -> list[Process]:
    """Every live process of the node: its components, the shims of its containers, and what runs in them."""
    return [process for process in processes.processes() if process.mark or _is_shim(process) or _is_contained(process)]


def environment(places: Places) -> dict[str, str]:
    """What a shell or a test needs to find the node and its programs."""
    return {"KUBECONFIG": str(places.kubeconfig), "PATH": f"{places.bin}:{os.environ['PATH']}"}


def _prepare(places: Places) -> None:
    """Make the folders, the network namespace and the certificates."""
    for folder in (RUN, places.configuration, places.logs, places.volumes, places.state("kubelet")):
        folder.mkdir(parents=True, exist_ok=True)
    _BOOT.write_text(boot.number())
    network.up()
    certificates.ensure(places)


def _start(places: Places, *, bases: bool) -> None:
    api, started = Api(places), list[Component]()

    def start(component: Component) -> Component:
        if processes.start(component, places.logs):
            _log.info("started %s", component.name)
        started.append(component)
        return component

    def wait(what: str, check: Callable[[], bool]) -> None:
        health.wait(what, check, started, places.logs)

    start(components.etcd(places))
    start(components.containerd(places))
    wait("containerd listens", lambda: health.listens(components.SOCKET))
    start(components.apiserver(places))
    store = Store(places)
    for stand_in in stand_ins.NODE + (stand_ins.BASES if bases else ()):
        stand_ins.ensure(places, store, stand_in.tag)
        builder.bring(places, store, stand_in.tag)
    wait("the API server is ready", lambda: health.api_is_ready(api))
    start(components.controller_manager(places))
    start(components.scheduler(places))
    start(components.provisioner(places))
    start(components.proxy(places))
    _cgroups()
    kubelet = start(components.kubelet(places))
    _apply(places)
    since = health.started_at(kubelet)
    wait("the node is Ready", lambda: health.node_is_ready(api, since=since))
    wait(f"DNS answers at {DNS_SERVICE}", lambda: health.dns_answers() or _unstick_dns(api))


def _unstick_dns(api: Api) -> bool:
    """Replace the pods of CoreDNS that the kubelet will not start for a while, since they were killed too often."""
    with suppress(ApiError):
        for pod in api.get(f"{_DNS_PODS}?labelSelector=k8s-app=kube-dns")["items"]:
            states = [status.get("state", {}) for status in pod["status"].get("containerStatuses", [])]
            if any(state.get("waiting", {}).get("reason") == "CrashLoopBackOff" for state in states):
                api.delete(f"{_DNS_PODS}/{pod['metadata']['name']}")
    return False


def _apply(places: Places) -> None:
    files = [word for name in _MANIFESTS for word in ("-f", str(components.MANIFESTS / name))]
    command = [*components.kubectl(places), "apply", "--server-side", "--force-conflicts", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"kubectl apply failed: {done.stderr.strip()}")


def _stop(places: Places) -> None:
    """End processes, mounts, cgroups and the network, in the order in which each lets go of the next."""
    with places.lock("build"):  # a build has mounts, too
        _stop_all(places)


def _stop_all(places: Places) -> None:
    processes.stop("kubelet", "provisioner", "proxy", "controller-manager", "scheduler", "registry", "apiserver")
    # nothing starts containers any more; containers before their shims, or these would report and clean up
    while contained := [process for process in processes.processes() if _is_contained(process)]:
        processes.kill(contained)  # and once more, for a process of a pod can start another while we look
    processes.kill([process for process in processes.processes() if _is_shim(process)])
    processes.stop("containerd", "etcd")
    processes.kill(alive())  # what else inherited a mark: a mount or a plugin that still runs
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


def _is_api_server_alone() -> bool:
    return any(process.mark.partition("@")[0] == _ETCD_ALONE for process in processes.processes())


def _has_booted_since() -> bool:
    """Whether the node was up before a reboot: where /run is on a disk, what was in it is still there."""
    return RUN.exists() and (not _BOOT.exists() or _BOOT.read_text() != boot.number())
