"""Failed stages of a run on a cluster start again when an annotation asks for it, or a changed specification."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from distillery.core.api import RETRY_ANNOTATION
from distillery_operator.model.names import STAGE_LABEL
from tests.fakes.cluster import FakeCluster, result_of, run_object
from tests.unit.operator.decide.test_decide import fail


def request(cluster: FakeCluster, value: str) -> None:
    cluster.body["metadata"].setdefault("annotations", {})[RETRY_ANNOTATION] = value


def record_of(cluster: FakeCluster, stage: str) -> dict[str, Any]:
    return next(record for record in cluster.status["stages"] if record["name"] == stage)


def jobs_of(cluster: FakeCluster, stage: str) -> list[str]:
    return [
        n for (kind, n), o in cluster.objects.items() if kind == "Job" and o["metadata"]["labels"][STAGE_LABEL] == stage
    ]


def test_retry_starts_the_failed_stage_as_another_job():
    cluster = FakeCluster(run_object())
    fail(cluster, "r1-rollout", "BackoffLimitExceeded", {"message": "out of memory", "permanent": False})
    assert cluster.status["phase"] == "Failed"
    assert "to resume: distillery retry team/test" in cluster.condition("Failed")["message"]
    assert "completionTime" in cluster.status
    request(cluster, "2026-11-29T12:00:00+00:00")
    cluster.reconcile()
    assert (cluster.status["phase"], cluster.status["retryRequest"]) == ("Running", "2026-11-29T12:00:00+00:00")
    failed = cluster.condition("Failed")
    assert (failed["status"], failed["reason"]) == ("False", "RetryRequested")
    assert "completionTime" not in cluster.status
    assert (record_of(cluster, "r1-rollout")["phase"], record_of(cluster, "r1-rollout")["attempts"]) == ("Running", 2)
    assert len(jobs_of(cluster, "r1-rollout")) == 2
    assert [event.reason for event in cluster.events].count("RetryRequested") == 1
    assert cluster.run() == "Complete"
    assert cluster.created.count("prepare") == 1


@pytest.mark.parametrize("promoted", [False, True])
def test_complete_run_is_judged_again_when_it_gets_held_out_tasks(promoted: bool):
    """The Jobs of the first look are there still, and their results in the status."""

    def looked(stage: str) -> dict[str, Any]:
        tasks = cluster.body["spec"]["environment"]["tasks"]["evaluate"]
        result = result_of(stage, promoted=promoted or tasks == 300)
        return result | ({"heldOutTasks": tasks} if re.search("prepare|evaluate|promote", stage) else {})

    cluster = FakeCluster(run_object())
    assert cluster.run(result=looked) == "Complete"
    before = len(cluster.created)
    cluster.body["spec"]["environment"]["tasks"]["evaluate"] = 300
    cluster.reconcile()
    if promoted:
        assert (cluster.status["phase"], len(cluster.created)) == ("Complete", before)
        return
    complete = cluster.condition("Complete")
    assert (complete["status"], complete["reason"]) == ("False", "TasksAdded")
    assert cluster.status["phase"] == "Running"
    assert cluster.run(result=looked) == "Complete"
    assert cluster.created[before:] == ["prepare", "r1-evaluate-baseline", "r1-evaluate-distilled", "r1-promote"]
    assert [(ended["round"], ended["verdict"]) for ended in cluster.status["rounds"]] == [(1, "Successful")]
    assert cluster.condition("Promoted")["status"] == "True"


def test_retry_is_answered_once():
    cluster = FakeCluster(run_object())
    for number in (1, 2, 3):
        fail(cluster, "r1-rollout", "BackoffLimitExceeded", None)
        assert cluster.status["phase"] == "Failed"
        for _ in range(3):
            cluster.reconcile()
        assert len(jobs_of(cluster, "r1-rollout")) == number
        request(cluster, str(number))
    assert cluster.run() == "Complete"


def test_stage_config_has_the_request_when_it_is_retried():
    cluster = FakeCluster(run_object())
    fail(cluster, "r1-rollout", "PodFailurePolicy", {"message": "no such secret", "permanent": True})
    first = jobs_of(cluster, "r1-rollout")
    request(cluster, "now")
    cluster.reconcile()
    (second,) = set(jobs_of(cluster, "r1-rollout")) - set(first)
    requests = [
        json.loads(cluster.objects["ConfigMap", name]["data"]["config.json"])["retry"] for name in (*first, second)
    ]
    assert requests == ["", "now"]


def test_retry_costs_no_second_job_when_the_status_was_not_written():
    cluster = FakeCluster(run_object())
    fail(cluster, "r1-rollout", "BackoffLimitExceeded", None)
    before = copy.deepcopy(cluster.status)
    request(cluster, "now")
    cluster.reconcile()
    cluster.status = before
    for _ in range(3):
        cluster.reconcile()
    assert len(jobs_of(cluster, "r1-rollout")) == 2
    assert cluster.run() == "Complete"


def test_retry_waits_for_room_and_forgets_nothing_meanwhile():
    """Two stages that failed, and room for one: the second is not taken for failed again."""
    cluster = FakeCluster(run_object(stages={"maxParallel": 1}))
    fail(cluster, "r1-teach", "BackoffLimitExceeded", None)
    cluster.status["stages"].append(
        {"name": "r1-evaluate-baseline", "phase": "Failed", "attempts": 1, "message": "away"}
    )
    request(cluster, "now")
    cluster.reconcile()
    assert (
        record_of(cluster, "r1-evaluate-baseline")["phase"],
        record_of(cluster, "r1-evaluate-baseline")["attempts"],
    ) == (
        "Pending",
        2,
    )
    assert cluster.run() == "Complete"
    assert cluster.created.count("r1-evaluate-baseline") == 1


def test_retry_brings_the_schema_up_again_when_that_failed():
    cluster = FakeCluster(run_object())
    while not (migration := [j for j in cluster.running_jobs() if j["metadata"]["labels"][STAGE_LABEL] == "migrate"]):
        cluster.reconcile()
        cluster.get_ready()
    cluster.end_job(migration[0], "Failed", "BackoffLimitExceeded")
    cluster.reconcile()
    assert cluster.condition("DatabaseReady")["reason"] == "MigrationFailed"
    assert "to resume: distillery retry team/test" in cluster.status["message"]
    request(cluster, "now")
    cluster.reconcile()
    assert cluster.run() == "Complete"
    assert cluster.created.count("migrate") == 2


def test_retry_is_refused_when_the_run_is_complete():
    cluster = FakeCluster(run_object())
    cluster.run()
    cluster.reconcile()
    created, writes = list(cluster.created), cluster.writes
    request(cluster, "now")
    for _ in range(3):
        cluster.reconcile()
    assert (cluster.created, cluster.writes, cluster.status["phase"]) == (created, writes + 1, "Complete")
    assert "the run is complete, and no stage of it failed" in cluster.condition("RequestAccepted")["message"]


def edit(cluster: FakeCluster, **spec: Any) -> None:
    changed = run_object(**spec)["spec"]
    cluster.body["spec"] = changed
    cluster.body["metadata"]["generation"] += 1


@pytest.mark.parametrize("ended", ["running", "failed"])
def test_prepare_starts_again_when_the_spec_changes(ended: str):
    cluster = FakeCluster(run_object())
    while "prepare" not in cluster.created:
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            if job["metadata"]["labels"][STAGE_LABEL] == "migrate":
                cluster.end_job(job, "Complete")
    (first,) = jobs_of(cluster, "prepare")
    if ended == "failed":
        cluster.end_job(
            cluster.objects["Job", first], "Failed", "PodFailurePolicy", {"message": "x", "permanent": True}
        )
        cluster.reconcile()
        assert cluster.status["phase"] == "Failed"
    edit(cluster, training={"seed": 7})
    cluster.reconcile()
    assert cluster.status["phase"] == "Running"
    cluster.reconcile()
    (second,) = jobs_of(cluster, "prepare")
    assert second != first
    document = json.loads(cluster.objects["ConfigMap", second]["data"]["config.json"])["document"]
    assert document["spec"]["training"]["seed"] == 7
    assert cluster.run() == "Complete"
    assert cluster.created.count("prepare") == 2


def test_later_stages_use_new_settings_when_they_change():
    cluster = FakeCluster(run_object())
    while "r1-rollout" not in cluster.created:
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            name = job["metadata"]["labels"][STAGE_LABEL]
            if name != "r1-rollout":
                cluster.end_job(job, "Complete", word={"result": result_of(name)})
    running = copy.deepcopy(cluster.objects["Job", jobs_of(cluster, "r1-rollout")[0]])
    edit(cluster, rollout={"workers": 3}, stages={"teach": {"resources": {"limits": {"memory": "9Gi"}}}})
    cluster.reconcile()
    assert cluster.objects["Job", running["metadata"]["name"]] == running
    assert cluster.run() == "Complete"
    teach = cluster.objects["Job", jobs_of(cluster, "r1-teach")[0]]["spec"]
    assert teach["completions"] == 3
    assert teach["template"]["spec"]["containers"][0]["resources"]["limits"] == {"memory": "9Gi"}


def test_suspended_stage_resumes_with_new_settings_when_they_change():
    cluster = FakeCluster(run_object())
    while "r1-rollout" not in cluster.created:
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            if job["metadata"]["labels"][STAGE_LABEL] != "r1-rollout":
                cluster.end_job(job, "Complete", word={"result": {}})
    edit(cluster, suspend=True)
    cluster.reconcile()
    edit(cluster, rollout={"concurrency": 5})
    cluster.reconcile()
    (name,) = jobs_of(cluster, "r1-rollout")
    document = json.loads(cluster.objects["ConfigMap", name]["data"]["config.json"])["document"]
    assert document["spec"]["rollout"]["concurrency"] == 5


def test_run_starts_when_its_invalid_spec_is_fixed():
    body = run_object()
    body["spec"]["podTemplate"]["nodeSelector"] = {"not a label!": "x"}
    cluster = FakeCluster(body)
    cluster.reconcile()
    assert cluster.status["phase"] == "Failed"
    edit(cluster)
    assert cluster.run() == "Complete"
    assert cluster.condition("Failed")["status"] == "False"


def test_stage_succeeds_when_one_worker_finished_it():
    """The others used their retries up; a worker ends well once nothing is left to do."""
    cluster = FakeCluster(run_object())
    fail(cluster, "r1-rollout", "FailedIndexes", {"result": {}})
    assert cluster.status["phase"] == "Running"
    assert record_of(cluster, "r1-rollout")["phase"] == "Succeeded"
