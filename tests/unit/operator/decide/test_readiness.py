"""Ready says whether what a run offers now is there, in the words that kstatus, Flux and Argo CD know."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.cluster import FakeCluster, result_of, run_object
from tests.unit.operator.decide.test_one_gpu import PAUSE, end_jobs, until


def ready(cluster: FakeCluster) -> tuple[str, str]:
    condition = cluster.condition("Ready")
    return condition["status"], condition["reason"]


def kstatus(body: dict[str, Any], status: dict[str, Any]) -> str:
    """What kstatus makes of a custom resource (its generic rules: generation, Reconciling and Stalled, then Ready)."""
    states = {condition["type"]: condition["status"] for condition in status["conditions"]}
    if status["observedGeneration"] != body["metadata"]["generation"] or states.get("Reconciling") == "True":
        return "InProgress"
    if states.get("Stalled") == "True":
        return "Failed"
    return "InProgress" if states.get("Ready", "True") != "True" else "Current"


def lost(stage: str) -> dict[str, Any]:
    return result_of(stage, promoted=False)


def test_run_is_not_ready_before_something_is_served():
    cluster = FakeCluster(run_object(rounds={"maxRounds": 2}))
    for _ in range(3):
        cluster.reconcile()
        assert ready(cluster) == ("False", "Progressing")
        assert kstatus(cluster.body, cluster.status) == "InProgress"
        cluster.get_ready()
        end_jobs(cluster)


def test_run_is_ready_when_it_serves_while_a_later_round_runs():
    cluster = FakeCluster(run_object(rounds={"maxRounds": 2}, promotion={"weights": "adapter"}))
    until(cluster, "Running", 1)
    assert ready(cluster) == ("False", "RollingOut")
    cluster.get_ready()
    cluster.reconcile()
    assert (cluster.status["phase"], ready(cluster)) == ("Running", ("True", "Available"))
    assert kstatus(cluster.body, cluster.status) == "Current"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({}, "Available"),
        ({"serving": {"replicas": 0}}, "Complete"),
        ({"promotion": {"policy": "Never"}}, "Complete"),
    ],
)
def test_run_is_ready_when_it_is_complete(spec: dict[str, Any], reason: str):
    cluster = FakeCluster(run_object(**spec))
    cluster.run(result=lost if "promotion" in spec else result_of)
    assert ready(cluster) == ("True", reason)
    assert kstatus(cluster.body, cluster.status) == "Current"


def test_run_is_not_ready_while_servers_make_room_for_a_round():
    cluster = FakeCluster(run_object(rounds={"maxRounds": 2}, **PAUSE))
    until(cluster, "Running", 1)
    assert ready(cluster) == ("False", "Paused")


def test_run_is_not_ready_when_it_is_suspended_and_serves_nothing():
    cluster = FakeCluster(run_object(suspend=True))
    cluster.reconcile()
    assert ready(cluster) == ("False", "Suspended")


def test_run_that_failed_is_stalled_until_it_is_retried():
    cluster = FakeCluster(run_object())
    while not cluster.running_jobs() or "prepare" not in cluster.created:
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            end = "Failed" if "prepare" in job["metadata"]["name"] else "Complete"
            cluster.end_job(job, end, word={"result": {}} if end == "Complete" else None)
        if cluster.status["phase"] == "Failed":
            break
    assert ready(cluster) == ("False", "StageFailed")
    assert cluster.condition("Stalled")["reason"] == "StageFailed"
    assert kstatus(cluster.body, cluster.status) == "Failed"
    writes = cluster.writes
    for _ in range(3):
        cluster.reconcile()
    assert cluster.writes == writes
    assert [event.reason for event in cluster.events].count("StageFailed") == 1  # the stage's own
    cluster.body["metadata"]["annotations"] = {"distillery.dev/retry-requested": "now"}
    cluster.reconcile()
    assert (ready(cluster), cluster.condition("Stalled")["status"]) == (("False", "Progressing"), "False")


def test_run_is_not_ready_when_its_specification_is_invalid():
    cluster = FakeCluster(run_object())
    cluster.run()
    cluster.body["spec"]["serving"]["replicas"] = -1
    cluster.reconcile()
    assert ready(cluster) == ("False", "InvalidSpec")
