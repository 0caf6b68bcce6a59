"""The limits in time and number of what the operator decides."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from distillery_operator.crd.status_schema import MAX_OF_STAGE
from distillery_operator.decide.problems import MIN_AGE
from distillery_operator.manifests.jobs import HISTORY
from distillery_operator.model.names import STAGE_LABEL
from distillery_operator.model.objects import rfc3339
from distillery_operator.polling import SUSPICION_SECONDS, rollout_seconds
from tests.fakes.cluster import FakeCluster, result_of, run_object

ARMS = ["baseline", "sft", "distilled", "rag", "placebo"]


def running_stages(cluster: FakeCluster) -> list[str]:
    names = (job["metadata"]["labels"][STAGE_LABEL] for job in cluster.running_jobs())
    return sorted(name for name in names if name not in ("migrate", HISTORY))


def end_jobs(cluster: FakeCluster) -> None:
    for job in cluster.running_jobs():
        cluster.end_job(job, "Complete", word={"result": result_of(job["metadata"]["labels"][STAGE_LABEL])})


def run_until(cluster: FakeCluster, *stages: str) -> None:
    """Let stages succeed until some are created."""
    for _ in range(200):
        cluster.reconcile()
        if set(stages) <= set(cluster.created):
            return
        cluster.get_ready()
        end_jobs(cluster)
    raise AssertionError(f"{stages} do not start: {cluster.status}")


def training_run(max_parallel: int) -> FakeCluster:
    """A run whose students can be trained, and whose hints can be evaluated: several stages can start."""
    cluster = FakeCluster(run_object(stages={"maxParallel": max_parallel}, evaluation={"arms": ARMS}))
    run_until(cluster, "r1-evaluate-baseline", "r1-teach")
    end_jobs(cluster)
    cluster.reconcile()
    return cluster


@pytest.mark.parametrize("max_parallel", [1, 2])
def test_as_many_stages_run_as_allowed_when_more_can_start(max_parallel: int):
    assert len(running_stages(training_run(max_parallel))) == max_parallel


def test_one_stage_starts_when_one_of_several_ends():
    cluster = training_run(2)
    first, second = running_stages(cluster)
    (job,) = (job for job in cluster.running_jobs() if job["metadata"]["labels"][STAGE_LABEL] == first)
    cluster.end_job(job, "Complete", word={"result": result_of(first)})
    cluster.reconcile()
    assert second in running_stages(cluster)
    assert len(running_stages(cluster)) == 2


def test_no_stage_starts_or_stops_when_fewer_are_allowed_than_run():
    cluster = training_run(2)
    before = running_stages(cluster)
    cluster.body["spec"]["stages"]["maxParallel"] = 1
    cluster.reconcile()
    assert running_stages(cluster) == before


def complete_run(**spec: Any) -> FakeCluster:
    cluster = FakeCluster(run_object(**spec))
    assert cluster.run() == "Complete"
    return cluster


def test_completion_time_is_when_the_run_completed_and_stays():
    cluster = complete_run()
    ended = cluster.status["completionTime"]
    assert ended == rfc3339(cluster.now - timedelta(seconds=1))
    assert ended == cluster.condition("Complete")["lastTransitionTime"]
    cluster.now += timedelta(hours=1)
    cluster.reconcile()
    assert cluster.status["completionTime"] == ended


def test_completion_time_is_absent_while_the_run_is_in_progress():
    assert "completionTime" not in training_run(1).status


def test_completion_time_is_removed_when_a_failed_stage_is_retried():
    cluster = FakeCluster(run_object())
    run_until(cluster, "prepare")
    (job,) = cluster.running_jobs()
    cluster.end_job(job, "Failed")
    cluster.reconcile()
    assert "completionTime" in cluster.status
    cluster.body["metadata"]["annotations"] = {"distillery.dev/retry-requested": "now"}
    cluster.reconcile()
    assert "completionTime" not in cluster.status


@pytest.mark.parametrize(("early", "deleted"), [(1, False), (0, True)])
def test_jobs_are_deleted_at_the_end_of_their_time(early: int, deleted: bool):
    cluster = complete_run(ttlSecondsAfterFinished=3600)
    cluster.now = datetime.fromisoformat(cluster.status["completionTime"]) + timedelta(seconds=3600 - early)
    decision = cluster.reconcile()
    assert bool({reference.kind for reference, _ in decision.delete}) == deleted
    if not deleted:
        assert decision.requeue == early


@pytest.mark.parametrize(("seconds", "kept"), [(29, False), (30, True)])
def test_history_is_kept_once_a_student_was_served_for_a_while(seconds: int, kept: bool):
    cluster = FakeCluster(run_object())
    while "serving" not in cluster.status:
        cluster.reconcile()
        cluster.get_ready()
        end_jobs(cluster)
    for key, thing in list(cluster.objects.items()):
        if key[0] == "Job" and thing["metadata"]["labels"][STAGE_LABEL] == HISTORY:
            del cluster.objects[key]
    served = datetime.fromisoformat(cluster.status["serving"]["history"][0]["time"])
    cluster.now = served + timedelta(seconds=seconds)
    created = [manifest["metadata"]["labels"].get(STAGE_LABEL) for manifest in cluster.reconcile().create]
    assert (HISTORY in created) == kept


def stalled_pod(cluster: FakeCluster, age: timedelta) -> None:
    """Let the pod of the prepare stage fit on no node."""
    (job,) = cluster.running_jobs()
    owner = {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"], "controller": True}
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "No node."}
    cluster.objects["Pod", "stuck"] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "stuck",
            "namespace": "team",
            "uid": "stuck",
            "creationTimestamp": rfc3339(cluster.now - age),
            "labels": job["metadata"]["labels"],
            "ownerReferences": [owner],
        },
        "spec": {},
        "status": {"phase": "Pending", "conditions": [condition]},
    }


@pytest.mark.parametrize(("younger", "stalled"), [(1, False), (0, True)])
def test_run_is_stalled_once_a_stuck_pod_is_old_enough(younger: int, stalled: bool):
    cluster = FakeCluster(run_object())
    run_until(cluster, "prepare")
    stalled_pod(cluster, MIN_AGE - timedelta(seconds=younger))
    decision = cluster.reconcile()
    reasons = [c["reason"] for c in cluster.status["conditions"] if (c["type"], c["status"]) == ("Stalled", "True")]
    assert reasons == ["Unschedulable"] * stalled
    assert decision.requeue == SUSPICION_SECONDS, "a young one is polled again soon"


@pytest.mark.parametrize(("seconds", "interval"), [(0, 1.0), (59, 1.0), (60, SUSPICION_SECONDS)])
def test_poll_interval_of_a_rollout_grows_after_a_minute(seconds: int, interval: float):
    assert rollout_seconds(timedelta(seconds=seconds)) == interval


def test_stage_column_is_cut_when_many_stages_run():
    """All 13 arms at once; the API server refuses a status with a longer text, and with it all else in it."""
    arms = [
        "baseline", "sft", "distilled", "placebo-distilled", "distilled-matched", "placebo-distilled-matched",
        "sft-matched", "sft-unfiltered", "distilled-unfiltered", "placebo-distilled-unfiltered", "rag", "placebo",
        "distilled+rag",
    ]  # fmt: skip
    cluster = FakeCluster(run_object(stages={"maxParallel": 16}, evaluation={"arms": arms}))
    for _ in range(60):
        cluster.reconcile()
        cluster.get_ready()
        assert len(cluster.status["stage"]) <= MAX_OF_STAGE
        for job in cluster.running_jobs():
            stage = job["metadata"]["labels"][STAGE_LABEL]
            if "evaluate" not in stage or stage == "r1-evaluate-baseline":
                cluster.end_job(job, "Complete", word={"result": result_of(stage)})
    assert len(cluster.running_jobs()) == 9
    assert cluster.status["stage"].endswith(",...")
