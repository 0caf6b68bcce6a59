"""What the operator decides, from the first look at a run to its end and after."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from distillery.core.api import parse
from distillery_operator.manifests.jobs import HISTORY
from distillery_operator.model.names import STAGE_LABEL, RunRef
from distillery_operator.model.objects import rfc3339
from tests.fakes.cluster import UID, FakeCluster, result_of, run_object


def stages_of(cluster: FakeCluster) -> list[str]:
    return [stage for stage in cluster.created if stage != "migrate"]


ONE_ROUND = [
    "prepare", "r1-rollout", "r1-hints", "r1-teach", "r1-evaluate-baseline", "r1-train-distilled",
    "r1-evaluate-distilled", "r1-promote",
]  # fmt: skip


def test_run_serves_its_student_when_all_stages_succeed():
    cluster = FakeCluster(run_object())
    assert cluster.run() == "Complete"
    assert cluster.created[0] == "migrate"
    assert sorted(stages_of(cluster)) == sorted(ONE_ROUND)
    assert ("Deployment", "test") in cluster.objects
    assert cluster.status["serving"]["url"] == "http://test.team.svc:8000/v1"
    assert cluster.status["scores"] == {"baseline": "40.0", "candidate": "80.0"}
    assert [r["verdict"] for r in cluster.status["rounds"]] == ["Successful"]
    assert cluster.condition("Complete")["status"] == "True"


def test_stages_start_when_the_database_has_its_schema():
    cluster = FakeCluster(run_object())
    first = cluster.reconcile()
    assert first.secret
    assert {m["kind"] for m in first.apply} == {
        "ServiceAccount", "PersistentVolumeClaim", "NetworkPolicy", "Service", "StatefulSet",
    }  # fmt: skip
    assert not first.create
    cluster.reconcile()
    assert not cluster.created
    cluster.get_ready()
    cluster.reconcile()
    cluster.reconcile()
    assert cluster.created == ["migrate"]
    assert cluster.condition("DatabaseReady")["reason"] == "Migrating"


def test_no_database_is_made_when_the_run_names_one():
    cluster = FakeCluster(run_object(database={"dsnSecretRef": {"name": "pg", "key": "uri"}}))
    first = cluster.reconcile()
    assert not first.secret
    assert {m["kind"] for m in first.apply} == {"ServiceAccount", "PersistentVolumeClaim", "NetworkPolicy"}
    assert cluster.created == ["migrate"]
    assert cluster.run() == "Complete"


@pytest.mark.parametrize("ended", [False, True])
def test_prepare_starts_again_when_what_is_learned_changes(ended: bool):
    cluster = FakeCluster(run_object())
    while "prepare" not in cluster.created:
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            if job["metadata"]["labels"][STAGE_LABEL] == "migrate":
                cluster.end_job(job, "Complete")
    (before,) = cluster.running_jobs()
    if ended:
        written_by = RunRef(parse(cluster.body), UID).identity
        cluster.end_job(before, "Complete", word={"result": {"run": str(written_by)}})
    cluster.body["spec"]["training"] = {"seed": 7}
    cluster.reconcile()
    cluster.reconcile()
    stages = {job["metadata"]["labels"][STAGE_LABEL]: job for job in cluster.running_jobs()}
    assert set(stages) == {"prepare"}
    assert stages["prepare"]["metadata"]["name"] != before["metadata"]["name"]
    assert ("Job", before["metadata"]["name"]) not in cluster.objects
    assert cluster.run() == "Complete"


def test_nothing_is_served_when_the_candidate_fails():
    cluster = FakeCluster(run_object())
    assert cluster.run(result=lambda stage: result_of(stage, promoted=False)) == "Complete"
    assert not any(kind == "Deployment" for kind, _ in cluster.objects)
    assert cluster.condition("Promoted")["status"] == "False"


def test_next_round_plays_with_the_student_when_it_was_promoted():
    cluster = FakeCluster(run_object(rounds={"maxRounds": 2}))
    while "r2-rollout" not in cluster.created:
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            stage = job["metadata"]["labels"][STAGE_LABEL]
            if stage != "r2-rollout":
                cluster.end_job(job, "Complete", word={"result": result_of(stage)})
    assert cluster.status["phase"] == "Running"
    assert ("Deployment", "test") in cluster.objects
    (rollout,) = [j for j in cluster.running_jobs() if j["metadata"]["labels"][STAGE_LABEL] == "r2-rollout"]
    server = rollout["spec"]["template"]["spec"]["initContainers"][-1]
    command = server["command"]
    assert command[command.index("--model") + 1].endswith("/r1-train-distilled/merged")
    assert {s["name"] for s in cluster.status["stages"]} == {"prepare", "r2-sample", "r2-rollout"}
    assert cluster.run() == "Complete"
    assert cluster.status["roundProgress"] == "2/2"
    assert len(cluster.status["rounds"]) == 2


def test_run_ends_the_same_when_the_operator_forgets_everything():
    """FakeCluster.reconcile() keeps nothing between looks: this is that very claim, made explicit."""
    ends = []
    for look_twice in (False, True):
        cluster = FakeCluster(run_object(rounds={"maxRounds": 2}))
        for _ in range(400):
            cluster.reconcile()
            if look_twice:
                status = dict(cluster.status)
                cluster.reconcile()
                if status["phase"] == "Complete":
                    assert cluster.status == status
            if cluster.status["phase"] == "Complete":
                break
            cluster.get_ready()
            for job in cluster.running_jobs():
                word = {"result": result_of(job["metadata"]["labels"][STAGE_LABEL])}
                cluster.end_job(job, "Complete", word=word)
        ends.append(
            (sorted(cluster.created), cluster.status["phase"], [r["student"] for r in cluster.status["rounds"]])
        )
    assert ends[0] == ends[1]


def test_no_second_job_is_created_when_the_status_was_not_written():
    cluster, before = FakeCluster(run_object()), dict[str, Any]()
    for _ in range(400):
        before = dict(cluster.status)
        cluster.reconcile()
        if cluster.created[-1:] == ["r1-rollout"]:
            break
        cluster.get_ready()
        for job in cluster.running_jobs():
            cluster.end_job(job, "Complete", word={"result": result_of(job["metadata"]["labels"][STAGE_LABEL])})
    cluster.status = before  # the operator died between creating the Job and telling so
    for _ in range(3):
        cluster.reconcile()
    assert cluster.created.count("r1-rollout") == 1
    assert "r1-rollout" in cluster.status["stage"]


def test_status_is_not_written_when_the_run_has_ended():
    cluster = FakeCluster(run_object())
    cluster.run()
    writes, events = cluster.writes, len(cluster.events)
    cluster.now += timedelta(minutes=1)
    cluster.reconcile()
    for _ in range(5):
        decision = cluster.reconcile()
        assert decision.requeue == cluster.settings.heal_seconds
    assert (cluster.writes, len(cluster.events)) == (writes, events)


@pytest.mark.parametrize("parallel", [1, 4])
def test_status_is_written_a_dozen_times_when_a_run_has_one_round(parallel: int):
    cluster = FakeCluster(run_object(stages={"maxParallel": parallel}))
    cluster.run()
    assert len(cluster.created) == 9
    assert cluster.writes <= 12


def test_status_is_not_written_when_nothing_changes():
    cluster = FakeCluster(run_object())
    for _ in range(6):
        cluster.reconcile()
        cluster.get_ready()
    writes = cluster.writes
    for _ in range(5):
        cluster.reconcile()
    assert cluster.writes == writes


def fail(cluster: FakeCluster, stage: str, reason: str, word: dict[str, Any] | None) -> None:
    for _ in range(100):
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            name = job["metadata"]["labels"][STAGE_LABEL]
            if name == stage:
                cluster.end_job(job, "Failed", reason, word)
                cluster.reconcile()
                return
            cluster.end_job(job, "Complete", word={"result": result_of(name)})


def test_stage_reports_the_error_of_fetch_when_it_has_no_model():
    cluster = FakeCluster(run_object())
    fail(cluster, "r1-rollout", "PodFailurePolicy", None)
    (name,) = [n for kind, n in cluster.objects if kind == "Pod" and "rollout" in n]
    ended = {"exitCode": 78, "message": "/models/tiny is not there\n"}
    cluster.objects["Pod", name]["status"] = {
        "phase": "Failed",
        "initContainerStatuses": [{"name": "fetch", "state": {"terminated": ended}}],
    }
    cluster.status["stages"] = [s for s in cluster.status["stages"] if s["name"] != "r1-rollout"]
    cluster.status["conditions"] = [c for c in cluster.status["conditions"] if c["type"] != "Failed"]
    cluster.reconcile()
    assert "/models/tiny is not there" in cluster.condition("Failed")["message"]


@pytest.mark.parametrize(
    ("reason", "word", "message"),
    [
        ("PodFailurePolicy", {"message": "no such model", "permanent": True}, "no such model"),
        ("BackoffLimitExceeded", {"message": "the server failed", "permanent": False}, "the server failed"),
        ("BackoffLimitExceeded", None, "BackoffLimitExceeded"),
        ("DeadlineExceeded", None, "took longer than spec.stages.rollout.timeoutSeconds"),
    ],
)
def test_run_fails_with_the_reason_when_a_stage_fails(reason: str, word: dict[str, Any] | None, message: str):
    cluster = FakeCluster(run_object())
    fail(cluster, "r1-rollout", reason, word)
    assert cluster.status["phase"] == "Failed"
    assert message in cluster.condition("Failed")["message"]
    assert "r1-rollout" in cluster.condition("Failed")["message"]
    assert any(event.warning and message in event.message for event in cluster.events)


def test_stage_runs_once_more_when_its_result_is_lost():
    cluster = FakeCluster(run_object())
    lost = 0
    for _ in range(100):
        cluster.reconcile()
        if cluster.status["phase"] == "Failed":
            break
        cluster.get_ready()
        for job in cluster.running_jobs():
            if job["metadata"]["labels"][STAGE_LABEL] == "prepare":
                lost += 1
                cluster.end_job(job, "Complete")  # without a word
            else:
                cluster.end_job(job, "Complete", word={"result": {}})
    assert lost == 2
    assert cluster.condition("Failed")["reason"] == "StageFailed"


@pytest.mark.parametrize("known", ["running", "none"])
def test_stage_waits_for_its_pod_when_the_watch_lags(known: str):
    cluster = FakeCluster(run_object())
    while not (prepare := [j for j in cluster.running_jobs() if j["metadata"]["labels"][STAGE_LABEL] == "prepare"]):
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            if job["metadata"]["labels"][STAGE_LABEL] == "migrate":
                cluster.end_job(job, "Complete")
    (job,) = prepare
    cluster.end_job(job, "Complete", word={"result": result_of("prepare")})
    job["status"]["conditions"][0]["lastTransitionTime"] = rfc3339(cluster.now)
    pod = cluster.objects.pop(("Pod", f"{job['metadata']['name']}-0-x"))
    if known == "running":
        behind = {**pod, "status": {"phase": "Running"}}
        cluster.objects["Pod", pod["metadata"]["name"]] = behind
    for _ in range(5):
        cluster.reconcile()
    assert cluster.created.count("prepare") == 1
    cluster.objects["Pod", pod["metadata"]["name"]] = pod
    assert cluster.run() == "Complete"
    assert cluster.created.count("prepare") == 1


def test_run_stops_when_it_is_suspended_and_resumes_later():
    cluster = FakeCluster(run_object())
    while "r1-rollout" not in cluster.created:
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            if job["metadata"]["labels"][STAGE_LABEL] != "r1-rollout":
                cluster.end_job(job, "Complete", word={"result": {}})
    cluster.body["spec"]["suspend"] = True
    cluster.reconcile()
    assert cluster.running_jobs() == []
    assert cluster.status["phase"] == "Suspended"
    assert cluster.condition("Suspended")["status"] == "True"
    for _ in range(3):
        cluster.reconcile()
    assert cluster.running_jobs() == []
    cluster.body["spec"]["suspend"] = False
    assert cluster.run() == "Complete"
    assert cluster.created.count("r1-rollout") == 2
    assert cluster.created.count("prepare") == 1
    assert cluster.condition("Suspended")["status"] == "False"


def test_one_stage_runs_when_one_is_allowed():
    cluster = FakeCluster(run_object(stages={"maxParallel": 1}, evaluation={"arms": ["baseline", "sft", "distilled"]}))
    for _ in range(200):
        cluster.reconcile()
        running = [j for j in cluster.running_jobs() if j["metadata"]["labels"][STAGE_LABEL] != "migrate"]
        assert len(running) <= 1
        if cluster.status["phase"] == "Complete":
            return
        cluster.get_ready()
        for job in cluster.running_jobs():
            cluster.end_job(job, "Complete", word={"result": result_of(job["metadata"]["labels"][STAGE_LABEL])})
    raise AssertionError("the run does not end")


def test_only_jobs_are_deleted_when_their_time_is_over():
    cluster = FakeCluster(run_object(ttlSecondsAfterFinished=3600))
    cluster.run()
    decision = cluster.reconcile()
    assert decision.requeue is not None
    assert decision.requeue <= 3600
    cluster.now += timedelta(hours=2)
    cluster.reconcile()
    assert {kind for kind, _ in cluster.objects} == {
        "ServiceAccount", "PersistentVolumeClaim", "NetworkPolicy", "Service", "StatefulSet", "Deployment", "ConfigMap",
        "Pod", "Job", "PodDisruptionBudget",
    }  # fmt: skip
    (left,) = [thing for (kind, _), thing in cluster.objects.items() if kind == "Job"]
    assert left["metadata"]["labels"][STAGE_LABEL] == HISTORY
    assert [name for kind, name in cluster.objects if kind == "ConfigMap"] == ["test-serving"]
    assert cluster.reconcile().requeue == cluster.settings.heal_seconds
    assert cluster.status["phase"] == "Complete"


def test_run_fails_when_its_spec_is_invalid():
    body = run_object()
    body["spec"]["environment"]["options"] = {}
    body["spec"]["podTemplate"]["nodeSelector"] = {"not a label!": "x"}
    cluster = FakeCluster(body)
    cluster.reconcile()
    assert cluster.status["phase"] == "Failed"
    assert cluster.condition("Accepted")["reason"] == "InvalidSpec"
    assert "spec.podTemplate.nodeSelector" in cluster.condition("Accepted")["message"]


def test_run_is_complete_when_its_servers_are_ready():
    cluster = FakeCluster(run_object())
    for _ in range(100):
        cluster.reconcile()
        for (kind, _), thing in cluster.objects.items():
            if kind == "StatefulSet":
                thing["status"] = {"readyReplicas": 1, "replicas": 1}
        for job in cluster.running_jobs():
            cluster.end_job(job, "Complete", word={"result": result_of(job["metadata"]["labels"][STAGE_LABEL])})
    assert cluster.status["phase"] == "Running"
    assert cluster.condition("Serving")["reason"] == "RollingOut"
    cluster.get_ready()
    cluster.reconcile()
    assert cluster.status["phase"] == "Complete"


def test_event_is_reported_once():
    cluster = FakeCluster(run_object())
    cluster.run()
    reported = [(event.reason, event.key) for event in cluster.events]
    assert len(reported) == len(set(reported))
    reasons = [event.reason for event in cluster.events]
    assert reasons.count("StageStarted") == reasons.count("StageSucceeded") == len(ONE_ROUND)
    assert reasons[-1] == "RunCompleted"
    assert "StudentPromoted" in reasons


TRIGGERED: dict[str, Any] = {
    "rounds": {"maxRounds": 2, "trigger": {"minFailures": 50}},
    "serving": {"feedback": {}},
}


def until_waiting(cluster: FakeCluster, *, promoted: bool = True) -> None:
    while cluster.status.get("phase") != "Waiting":
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            word = {"result": result_of(job["metadata"]["labels"][STAGE_LABEL], promoted=promoted)}
            cluster.end_job(job, "Complete", word=word)


def test_later_round_starts_when_there_are_enough_failures():
    cluster = FakeCluster(run_object(**TRIGGERED))
    until_waiting(cluster)
    for number in (0, 20, 49):
        cluster.failures = number
        assert cluster.reconcile().requeue == 20.0
        assert "r2-sample" not in cluster.created
    assert cluster.status["message"] == "Round 2 of 2 waits for 50 failures of users."
    cluster.failures = 50
    cluster.reconcile()
    assert cluster.created[-1] == "r2-sample"
    cluster.failures = 0  # the round uses them up
    assert cluster.run() == "Complete"
    assert len(cluster.status["rounds"]) == 2


def test_status_is_not_written_when_a_run_waits_for_failures():
    cluster = FakeCluster(run_object(**TRIGGERED))
    until_waiting(cluster)
    for _ in range(3):
        cluster.reconcile()
        cluster.get_ready()
    writes = cluster.writes
    for number in range(10):
        cluster.failures = number
        cluster.reconcile()
    assert cluster.writes == writes


def test_waiting_run_names_the_fix_when_nothing_is_served():
    cluster = FakeCluster(run_object(**TRIGGERED))
    until_waiting(cluster, promoted=False)
    assert "Nothing is served that could fail: spec.serving.pinnedRound: 0 serves the base" in cluster.status["message"]


def test_waiting_run_names_the_fix_when_no_pod_counts():
    cluster = FakeCluster(run_object(**TRIGGERED))
    until_waiting(cluster)
    cluster.body["spec"]["serving"]["replicas"] = 0
    cluster.reconcile()
    assert "while spec.serving.replicas is 0: write 1 or more." in cluster.status["message"]
    cluster.body["spec"]["serving"]["replicas"] = 1
    cluster.reconcile()
    assert cluster.status["message"] == "Round 2 of 2 waits for 50 failures of users."


def test_waiting_run_waits_again_when_it_is_resumed():
    cluster = FakeCluster(run_object(**TRIGGERED))
    until_waiting(cluster)
    cluster.body["spec"]["suspend"] = True
    cluster.failures = 99
    cluster.reconcile()
    assert cluster.status["phase"] == "Suspended"
    cluster.body["spec"]["suspend"], cluster.failures = False, 0
    cluster.reconcile()
    assert cluster.status["phase"] == "Waiting"


def test_run_keeps_its_phase_when_its_spec_becomes_invalid():
    cluster = FakeCluster(run_object(**TRIGGERED))
    until_waiting(cluster)
    cluster.body["spec"]["serving"]["feedback"]["redactPatterns"] = ["(unclosed"]
    for _ in range(2):
        cluster.reconcile()
        assert cluster.status["phase"] == "Waiting"
        assert cluster.condition("Accepted")["status"] == "False"
        assert "spec.serving.feedback.redactPatterns[0]" in cluster.status["message"]
    cluster.body["spec"]["serving"]["feedback"]["redactPatterns"] = []
    cluster.failures = 50
    cluster.reconcile()
    assert cluster.condition("Accepted")["status"] == "True"
    assert cluster.created[-1] == "r2-sample"


def test_database_admits_recorders_when_feedback_is_switched_on():
    cluster = FakeCluster(run_object())
    assert cluster.run() == "Complete"
    peers = lambda: cluster.objects["NetworkPolicy", "test-database"]["spec"]["ingress"][0]["from"]  # noqa: E731
    assert len(peers()) == 1
    for feedback, number in (({"retentionDays": 7, "maxSessions": 9, "redactPatterns": []}, 2), (None, 1)):
        cluster.body["spec"]["serving"]["feedback"] = feedback
        cluster.reconcile()
        assert len(peers()) == number
        containers = cluster.objects["Deployment", "test"]["spec"]["template"]["spec"]["initContainers"]
        assert [c["name"] for c in containers if c["name"] == "recorder"] == ["recorder"] * (number - 1)


@pytest.mark.parametrize(("present", "applied"), [("100Gi", "100Gi"), ("1Ti", "1Ti"), ("10Gi", "50Gi")])
def test_volume_keeps_its_size_when_a_user_enlarged_it(present: str, applied: str):
    cluster = FakeCluster(run_object())
    cluster.reconcile()
    claim = cluster.objects["PersistentVolumeClaim", "test-artifacts"]
    claim["spec"]["resources"]["requests"]["storage"] = present
    cluster.reconcile()
    claim = cluster.objects["PersistentVolumeClaim", "test-artifacts"]
    assert claim["spec"]["resources"]["requests"]["storage"] == applied
