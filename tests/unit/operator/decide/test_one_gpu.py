"""A cluster with one GPU: rounds and servers take turns, and a run that waits for the GPU names the fix."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from distillery_operator.decide.problems import find_problem
from distillery_operator.manifests import servers
from distillery_operator.model.names import STAGE_LABEL
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed
from tests.fakes.cluster import FakeCluster, result_of, run_object
from tests.unit.operator.decide.test_problems import MADE, UNSCHEDULABLE, pod
from tests.unit.operator.manifests.test_manifests import DIGEST, SETTINGS, STUDENT, owner

NOW = datetime.fromisoformat(MADE)
PAUSE: dict[str, Any] = {
    "promotion": {"weights": "adapter"},
    "serving": {"duringRounds": "Pause", "replicas": 2},
}


def end_jobs(cluster: FakeCluster) -> None:
    for job in cluster.running_jobs():
        cluster.end_job(job, "Complete", word={"result": result_of(job["metadata"]["labels"][STAGE_LABEL])})


def until(cluster: FakeCluster, phase: str, rounds: int) -> None:
    """Reconcile and let stages succeed until the run is in a phase, after so many rounds."""
    for _ in range(400):
        cluster.reconcile()
        if cluster.status["phase"] == phase and len(cluster.status["rounds"]) == rounds:
            return
        cluster.get_ready()
        end_jobs(cluster)
    raise AssertionError(f"the run gets not there: {cluster.status}")


def replicas(cluster: FakeCluster) -> int:
    return cluster.objects["Deployment", "test"]["spec"]["replicas"]


def test_servers_make_room_while_a_round_runs():
    cluster = FakeCluster(run_object(rounds={"maxRounds": 2}, **PAUSE))
    until(cluster, "Running", 1)
    cluster.get_ready()
    cluster.reconcile()
    assert replicas(cluster) == 0
    serving = cluster.condition("Serving")
    assert (serving["status"], serving["reason"]) == ("False", "Paused")
    assert "duringRounds" in serving["message"]
    assert cluster.run() == "Complete"
    assert (replicas(cluster), cluster.condition("Serving")["status"]) == (2, "True")


def test_servers_start_again_when_the_run_waits_or_is_suspended():
    rounds = {"maxRounds": 2, "trigger": {"minFailures": 9}}
    serving = {**PAUSE["serving"], "feedback": {}}
    cluster = FakeCluster(run_object(rounds=rounds, promotion=PAUSE["promotion"], serving=serving))
    until(cluster, "Waiting", 1)
    assert replicas(cluster) == 2
    cluster.failures = 9
    cluster.reconcile()
    assert (cluster.status["phase"], replicas(cluster)) == ("Running", 0)
    cluster.failures = 0
    cluster.reconcile()
    assert (cluster.status["phase"], replicas(cluster)) == ("Running", 0), "a round that began continues"
    cluster.body["spec"]["suspend"] = True
    cluster.reconcile()
    assert replicas(cluster) == 2


def test_servers_stay_by_default():
    cluster = FakeCluster(run_object(rounds={"maxRounds": 2}, promotion={"weights": "adapter"}))
    until(cluster, "Running", 1)
    cluster.reconcile()
    assert replicas(cluster) == 1


def test_serving_condition_gives_the_reason_when_there_are_no_replicas():
    cluster = FakeCluster(run_object(promotion={"weights": "adapter"}, serving={"replicas": 0}))
    assert cluster.run() == "Complete"
    serving = cluster.condition("Serving")
    assert (serving["status"], serving["reason"]) == ("False", "NoReplicas")


@pytest.mark.parametrize(("surge", "unavailable"), [(1, 0), (0, 1), (3, 0)])
def test_pods_are_replaced_without_a_spare_gpu_when_there_is_no_surge(surge: int, unavailable: int):
    of = owner(serving={"maxSurge": surge})
    strategy = servers.deployment(of, STUDENT, DIGEST, SETTINGS)["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": surge, "maxUnavailable": unavailable}


def with_gpu(made: Manifest, gpu: str = "nvidia.com/gpu", node: str = "") -> Manifest:
    spec: Manifest = {"containers": [{"name": "c", "resources": {"limits": {gpu: "1"}}}]}
    return {**made, "spec": spec | ({"nodeName": node} if node else {})}


def holder(labels: dict[str, str], gpu: str = "nvidia.com/gpu", **metadata: str) -> Manifest:
    made = pod(phase="Running")
    return with_gpu({**made, "metadata": {**made["metadata"], "labels": labels, **metadata}}, gpu, "n")


STAGE = {STAGE_LABEL: "r1-evaluate-baseline"}


@pytest.mark.parametrize(
    ("other", "stuck"),
    [
        (holder(STAGE), False),
        (holder({}, deletionTimestamp="2126-11-25T12:00:00Z"), False),
        (holder({}), True),
        (holder(STAGE, "amd.com/gpu"), True),
    ],
)
def test_stage_is_stuck_when_the_run_frees_no_gpu(other: Manifest, stuck: bool):
    waiting = with_gpu(pod(conditions=UNSCHEDULABLE))
    assert bool(find_problem(Observed(pods=(waiting, other)), NOW)) == stuck


def test_servers_that_hold_the_gpu_are_named_with_a_fix():
    waiting = with_gpu(pod(conditions=UNSCHEDULABLE))
    problem = find_problem(Observed(pods=(waiting, holder({}))), NOW)
    assert problem
    assert "3 Insufficient nvidia.com/gpu. Servers of the run hold GPUs" in problem.message
    assert problem.message.endswith("spec.serving.duringRounds: Pause.")
