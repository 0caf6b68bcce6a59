"""Where Kubernetes' own scheduler puts the pods of a run, on nodes that kwok only pretends to have.

Nothing runs there. The pods are those that the operator makes, without the controllers that would replace them.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distillery.core.api import parse
from distillery.core.planner import Kind
from distillery_operator.manifests import database, jobs, placement, servers
from distillery_operator.manifests.pods import claim_name
from distillery_operator.model.names import RunRef
from distillery_operator.settings import Settings
from hack.testbed.machine import programs
from hack.testbed.places import Places
from tests.e2e.conftest import namespace
from tests.e2e.support.cluster import Cluster, Namespace
from tests.fakes.cluster import run_object
from tests.unit.operator.manifests.test_manifests import DIGEST, STUDENT, stage

pytestmark = pytest.mark.full

POOL = {"kwok.example.com/pool": "pretended"}
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
SETTINGS = Settings()
GPU: dict[str, Any] = {
    "podTemplate": {"nodeSelector": POOL},  # away from the real node
    "modelServer": {"resources": {"requests": {"cpu": "4"}, "limits": {"nvidia.com/gpu": "1"}}},
    "stages": {"train": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}},
}
IN_S3: dict[str, Any] = {"storage": {"uri": "s3://bucket/runs"}}


def owner(namespace: str, **spec: Any) -> RunRef:
    body = run_object(**GPU, **spec)
    body["metadata"]["namespace"] = namespace
    return RunRef(parse(body), body["metadata"]["uid"])


@contextmanager
def nodes(cluster: Cluster, gpus: int) -> Generator[None]:
    """Two nodes without a GPU, and a tainted one with some; all of them only say that they are ready."""
    system = cluster.namespace("default")
    sizes = {"cpu": "16", "memory": "128Gi", "pods": "110"}
    pretended = {"kwok-cpu-1": {}, "kwok-cpu-2": {}, "kwok-gpu": {"nvidia.com/gpu": str(gpus)}}
    for name, more in pretended.items():
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {**POOL, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
            },
            "spec": {"taints": [TAINT] if more else []},
            "status": {"capacity": {**sizes, **more}, "allocatable": {**sizes, **more}},
        }
        system.kubectl("create", "--filename=-", stdin=json.dumps(node))
    try:
        for name in pretended:
            system.kubectl("wait", f"node/{name}", "--for=condition=Ready", "--timeout=120s")
        yield
    finally:
        system.kubectl("delete", "node", *pretended, "--ignore-not-found")


@pytest.fixture(scope="module")
def kwok(cluster: Cluster, places: Places, tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """kwok, which lets pretended nodes be ready and their pods run."""
    programs.build(places, (programs.KWOK,))
    folder = tmp_path_factory.mktemp("kwok")
    module = json.loads(
        programs.go(["mod", "download", "-json", f"{programs.KWOK.module}@{programs.KWOK.version}"], folder)
    )
    stages = Path(module["Dir"], "kustomize", "stage")
    files = (
        "node/fast/node-initialize",
        "node/heartbeat-with-lease/node-heartbeat-with-lease",
        "pod/fast/pod-ready",
        "pod/fast/pod-delete",
    )
    config = folder / "stages.yaml"
    config.write_text("\n---\n".join((stages / f"{name}.yaml").read_text() for name in files))
    command = [
        places.program("kwok"), f"--kubeconfig={places.kubeconfig}", f"--config={config}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake", "--node-lease-duration-seconds=40",
    ]  # fmt: skip
    with cluster.start(*command, log=folder / "log"):
        yield


@pytest.fixture(params=[2])
def team(kwok: None, cluster: Cluster, request: pytest.FixtureRequest) -> Generator[Namespace]:
    """A namespace with pretended nodes with so many GPUs, with a quota that refuses pods which ask for nothing."""
    hard = {"requests.cpu": "100", "requests.memory": "1Ti", "limits.memory": "4Ti"}
    metadata = {"name": "quota"}
    with nodes(cluster, request.param), namespace(cluster, "e2e-placement") as made:
        made.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})
        made.wait_for(
            "the quota", lambda: made.get("resourcequota", "quota").get("status", {}).get("hard"), seconds=120
        )
        yield made


def pod_of(of: RunRef, what: str) -> dict[str, Any]:
    """A pod of a run, by the name of a stage or of a component."""
    match what:
        case "database":
            template = database.stateful_set(of, SETTINGS)["spec"]["template"]
            template["spec"]["volumes"].append({"name": "data", "emptyDir": {}})  # its claim is a controller's work
        case "migrate":
            template = jobs.migration_job(of, SETTINGS)["spec"]["template"]
        case "serving":
            template = servers.deployment(of, STUDENT, DIGEST, SETTINGS)["spec"]["template"]
        case _:
            template = jobs.stage_job(of, stage(Kind(what), of=of), "j", SETTINGS)["spec"]["template"]
    spec = {**template["spec"], "serviceAccountName": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": what}, "spec": spec}


def volume(of: RunRef) -> Iterator[dict[str, Any]]:
    """The run's claim, and a volume for it that says nothing of nodes."""
    bound = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    name = f"{of.namespace}-{claim_name(of)}"
    reference = {"namespace": of.namespace, "name": claim_name(of)}
    yield {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {**bound, "hostPath": {"path": "/nowhere"}, "claimRef": reference},
    }
    yield {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim_name(of), "namespace": of.namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def start(team: Namespace, of: RunRef, what: str) -> str:
    """The node that a pod of a run gets."""
    team.apply(pod_of(of, what))
    team.wait_for(f"a node for {what}", lambda: node_of(team, what), seconds=120)
    return node_of(team, what)


def node_of(team: Namespace, what: str) -> str:
    return team.get("pod", what).get("spec", {}).get("nodeName", "")


def end(team: Namespace, what: str) -> None:
    team.kubectl("delete", "pod", what, "--timeout=120s")


@pytest.fixture
def with_volume(team: Namespace) -> Generator[RunRef]:
    """A run with the default volume."""
    of = owner(team.name)
    made = list(volume(of))
    for manifest in made:
        team.apply(manifest)
    try:
        yield of
    finally:
        team.kubectl("delete", "persistentvolume", made[0]["metadata"]["name"], "--wait=false")


def test_gpu_run_with_the_default_volume_finds_its_node(team: Namespace, with_volume: RunRef):
    of = with_volume
    assert placement.shares_one_node(of.run.spec)
    assert start(team, of, "database").startswith("kwok-cpu")
    assert start(team, of, "migrate").startswith("kwok-cpu")
    assert start(team, of, "prepare") == "kwok-gpu"
    end(team, "prepare")
    assert start(team, of, "rollout") == "kwok-gpu"
    assert start(team, of, "hints") == "kwok-gpu", "it follows the volume"
    end(team, "rollout")
    assert start(team, of, "serving") == "kwok-gpu"
    assert start(team, of, "train") == "kwok-gpu"


def test_only_gpu_pods_are_on_gpu_nodes_when_artifacts_are_in_s3(team: Namespace):
    of = owner(team.name, **IN_S3)
    for what in ("database", "migrate", "prepare", "hints", "promote"):
        assert start(team, of, what).startswith("kwok-cpu")
    for what in ("rollout", "serving"):
        assert start(team, of, what) == "kwok-gpu"


@pytest.mark.parametrize("team", [1], indirect=True)
def test_stage_gets_the_only_gpu_once_the_server_has_stopped(team: Namespace, with_volume: RunRef):
    """What ``duringRounds: Pause`` does."""
    of = with_volume
    assert start(team, of, "serving") == "kwok-gpu"
    team.apply(pod_of(of, "rollout"))

    def unschedulable() -> bool:
        conditions = team.get("pod", "rollout").get("status", {}).get("conditions", [])
        return any(c["type"] == "PodScheduled" and c.get("reason") == "Unschedulable" for c in conditions)

    team.wait_for("no room", unschedulable, seconds=120)
    end(team, "serving")
    team.wait_for("its GPU", lambda: node_of(team, "rollout") == "kwok-gpu", seconds=120)
