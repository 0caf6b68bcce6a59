"""The node comes up from whatever is left of it, and goes down without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.testbed import node
from hack.testbed.client.api import Api
from hack.testbed.client.kubectl import Kubectl
from hack.testbed.client.workloads import container, pod_spec
from hack.testbed.control_plane import components
from hack.testbed.machine import mounts, network, processes
from hack.testbed.places import RUN, Places
from tests.testbed.conftest import require_node

require_node()

PAUSE = container("pause", image=components.PAUSE)


@pytest.fixture
def deployment(kubectl: Kubectl) -> str:
    """A Deployment whose pod is ready."""
    labels = {"app": "kept"}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(PAUSE, restartPolicy="Always")}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    kubectl.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kept"}, "spec": spec})
    kubectl.wait("deployment/kept", "condition", "Available")
    return "deployment/kept"


def kill_everything(places: Places) -> None:
    processes.kill(node.alive())
    assert node.alive() == []


def pids(places: Places) -> dict[str, int]:
    """The process of each component; not the shims of containers, which inherit containerd's mark."""
    return {p.mark: p.pid for p in node.alive() if p.mark and not p.program.startswith("containerd-shim")}


def test_up_changes_nothing_on_a_node_that_runs(kubectl: Kubectl, places: Places):
    before = pids(places)
    node.up(places)
    assert pids(places) == before


def test_only_the_dead_component_is_started(kubectl: Kubectl, places: Places):
    before = pids(places)
    processes.stop("scheduler")
    node.up(places)
    changed = {mark.partition("@")[0] for mark, pid in pids(places).items() if before[mark] != pid}
    assert changed == {"scheduler"}


def test_node_comes_back_with_its_objects_when_it_was_killed(kubectl: Kubectl, places: Places, deployment: str):
    uid = kubectl.get("deployment", "kept")["metadata"]["uid"]
    kill_everything(places)
    assert mounts.below(RUN)
    assert network.whole()
    node.up(places)
    assert kubectl.get("deployment", "kept")["metadata"]["uid"] == uid
    kubectl("rollout", "restart", deployment)  # not what the server remembers: new pods run, old ones end
    kubectl("rollout", "status", deployment, "--timeout=240s")


def test_node_comes_back_after_a_reboot(kubectl: Kubectl, places: Places, deployment: str):
    kill_everything(places)
    mounts.release(places.root, RUN)
    network.down()
    network.NAMESPACE.touch()  # where /run is on a disk, the file is still there, with no namespace on it
    (RUN / "boot").write_text("another boot\n")
    node.up(places)
    kubectl("rollout", "restart", deployment)
    kubectl("rollout", "status", deployment, "--timeout=240s")


def test_down_leaves_no_trace_and_keeps_all_objects(kubectl: Kubectl, places: Places, deployment: str):
    node.down(places)
    try:
        assert node.alive() == []
        assert mounts.below(places.root, RUN) == []
        assert not RUN.exists()
        assert not Path("/run/netns").exists() or not list(Path("/run/netns").glob("cni-*"))
        assert not list(Path("/sys/class/net").glob("distillery*"))
        assert not list(Path("/sys/fs/cgroup").rglob(f"{components.CGROUP}*"))
        assert "10.77.0" not in Path("/proc/net/fib_trie").read_text()
    finally:
        node.up(places)
    kubectl.wait(deployment, "condition", "Available")


def test_down_does_nothing_when_the_node_is_down(kubectl: Kubectl, places: Places):
    node.down(places)
    node.down(places)
    node.up(places)


def test_api_server_alone_has_no_objects_and_a_node_keeps_its_own(kubectl: Kubectl, places: Places, deployment: str):
    uid = kubectl.get("deployment", "kept")["metadata"]["uid"]
    node.up_api_server(places)
    assert {process.mark.partition("@")[0] for process in node.alive()} == {"etcd-alone", "apiserver"}
    assert Api(places).get("/apis/apps/v1/deployments")["items"] == []
    node.up(places)
    assert kubectl.get("deployment", "kept")["metadata"]["uid"] == uid
    assert "etcd-alone" not in {process.mark.partition("@")[0] for process in node.alive()}
