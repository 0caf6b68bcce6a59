"""Annotations promote, roll back, pause, resume and abort, until the specification says otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from distillery.core.api import CANARY_ANNOTATION, SERVE_ANNOTATION, STAGES_ANNOTATION
from tests.fakes.cluster import FakeCluster, run_object
from tests.unit.operator.decide.canary.scenario import BAD, GOOD, NEW, OLD, STEPS, CanaryScenario
from tests.unit.operator.decide.test_decide import TRIGGERED, until_waiting


def request(cluster: FakeCluster, annotation: str, value: str) -> None:
    cluster.body["metadata"].setdefault("annotations", {})[annotation] = value
    cluster.reconcile()


def remove(cluster: FakeCluster, annotation: str) -> None:
    del cluster.body["metadata"]["annotations"][annotation]
    cluster.reconcile()


def answer(cluster: FakeCluster, annotation: str) -> dict[str, Any]:
    return next((record for record in cluster.status.get("requests", []) if record["name"] == annotation), {})


def accepted(cluster: FakeCluster) -> tuple[str, str]:
    condition = cluster.condition("RequestAccepted")
    return condition["status"], condition["message"]


def served(cluster: FakeCluster) -> int:
    return cluster.status["serving"]["round"]


def two_rounds(**spec: Any) -> CanaryScenario:
    """A cluster that serves the student of round 2, and served that of round 1 before."""
    cluster = CanaryScenario(run_object(rounds={"maxRounds": 3}, promotion={"weights": "adapter"}, **spec))
    cluster.run_rounds(2)
    cluster.settle()
    return cluster


@pytest.mark.parametrize(("value", "number"), [("1@a", 1), ("0@a", 0), ("previous@a", 1), ("latest", 2), ("02@a", 2)])
def test_serve_request_decides_what_is_served(value: str, number: int):
    cluster = two_rounds()
    request(cluster, SERVE_ANNOTATION, value)
    assert served(cluster) == number
    assert (answer(cluster, SERVE_ANNOTATION)["phase"], accepted(cluster)[0]) == ("Accepted", "True")


def test_serve_request_is_reported_with_its_reason():
    cluster = two_rounds()
    request(cluster, SERVE_ANNOTATION, "previous@a")
    message = (
        "distillery.dev/serve-requested is previous@a: the student of round 1 is to be served, "
        "until spec.serving.pinnedRound changes."
    )
    assert accepted(cluster) == ("True", message)
    assert cluster.status["serving"]["history"][0]["reason"] == "distillery.dev/serve-requested is 1."
    (event,) = (event for event in cluster.events if event.reason.startswith("Request"))
    assert (event.reason, event.message, event.warning) == ("RequestAccepted", message, False)


def test_serve_request_applies_when_its_annotation_was_removed():
    """A sync that replaces the resource, as some GitOps tools do, takes the annotation away."""
    cluster = two_rounds()
    request(cluster, SERVE_ANNOTATION, "1@a")
    remove(cluster, SERVE_ANNOTATION)
    assert cluster.run() == "Complete"
    assert (served(cluster), len(cluster.status["rounds"])) == (1, 3)
    request(cluster, SERVE_ANNOTATION, "latest@b")
    assert served(cluster) == 3


def test_serve_request_ends_when_the_spec_names_another_round():
    cluster = two_rounds()
    request(cluster, SERVE_ANNOTATION, "1@a")
    cluster.pin(2)
    assert (served(cluster), answer(cluster, SERVE_ANNOTATION)["phase"]) == (2, "Ended")
    assert cluster.events[-2].reason == "RequestEnded"
    cluster.pin(None)
    assert served(cluster) == 2, "the request does not come back with the former value of the field"


def test_serve_request_overrides_the_round_of_the_spec():
    cluster = two_rounds()
    cluster.pin(1)
    request(cluster, SERVE_ANNOTATION, "latest@a")
    assert served(cluster) == 2
    request(cluster, SERVE_ANNOTATION, "1@b")
    assert served(cluster) == 1
    assert "effect" not in answer(cluster, SERVE_ANNOTATION), "the specification says the same"


def test_rollback_serves_the_first_student_when_requested_twice():
    cluster = two_rounds()
    for token, number in (("a", 1), ("b", 2), ("c", 1)):
        request(cluster, SERVE_ANNOTATION, f"previous@{token}")
        for _ in range(3):
            cluster.reconcile()
        assert served(cluster) == number


@pytest.mark.parametrize(
    ("annotation", "value", "fix"),
    [
        (SERVE_ANNOTATION, "3@a", "round 3 has not ended. Name a round of status.rounds that has a student."),
        (SERVE_ANNOTATION, "newest", "write the number of a round, with 0 the base model, latest or previous,"),
        (SERVE_ANNOTATION, "-1", "write the number of a round"),
        (SERVE_ANNOTATION, "²", "write the number of a round"),
        (CANARY_ANNOTATION, "pause@a", "the run has no spec.serving.canary. Add one, or remove the annotation."),
        (CANARY_ANNOTATION, "abort@a", "no canary is on trial. Remove the annotation, or roll back: distillery.dev/"),
        (CANARY_ANNOTATION, "stop", "write pause, resume or abort, and @TOKEN."),
        (STAGES_ANNOTATION, "Pause", "write pause or resume, and @TOKEN."),
    ],
)
def test_request_is_refused_with_its_fix_and_changes_nothing_else(annotation: str, value: str, fix: str):
    cluster = two_rounds()
    before = {key: part for key, part in cluster.status.items() if key not in ("requests", "conditions")}
    request(cluster, annotation, value)
    state, message = accepted(cluster)
    assert state == "False"
    assert message.startswith(f"{annotation} is {value}, which changes nothing: {fix}")
    assert {key: part for key, part in cluster.status.items() if key not in ("requests", "conditions")} == before
    assert [event.warning for event in cluster.events if event.reason == "RequestRejected"] == [True]
    writes = cluster.writes
    cluster.reconcile()
    assert cluster.writes == writes
    remove(cluster, annotation)
    assert accepted(cluster)[0] == "True"


def test_refused_request_leaves_an_earlier_one_in_effect():
    cluster = two_rounds()
    request(cluster, SERVE_ANNOTATION, "1@a")
    request(cluster, SERVE_ANNOTATION, "7@b")
    assert (served(cluster), accepted(cluster)[0]) == (1, "False")
    remove(cluster, SERVE_ANNOTATION)
    assert (served(cluster), accepted(cluster)[0]) == (1, "True")


def test_rollback_is_refused_when_nothing_was_served():
    cluster = FakeCluster(run_object())
    request(cluster, SERVE_ANNOTATION, "previous")
    assert "nothing was served yet" in accepted(cluster)[1]


def test_rollback_ends_a_canary_and_stays_with_the_stable_student():
    cluster = CanaryScenario.start()
    request(cluster, SERVE_ANNOTATION, "previous@a")
    assert (cluster.targets, cluster.progress) == ([(OLD, 100)], ("False", "RolledBack"))
    cluster.settle()
    assert "canary" not in cluster.status["serving"]


@pytest.mark.parametrize("weights", ["adapter", "merged"])
def test_abort_ends_a_canary_for_good(weights: str):
    cluster = CanaryScenario.start(weights=weights)
    cluster.report_traffic(GOOD)
    request(cluster, CANARY_ANNOTATION, "abort@a")
    for _ in range(2):
        assert (cluster.targets, cluster.canary["phase"]) == ([(OLD, 100)], "Aborted")
        assert "shadows" not in cluster.desired()
        assert cluster.progress == ("False", "Aborted")
        cluster.settle()
    assert "in step 1 of 3. The user aborted it." in cluster.status["serving"]["history"][0]["reason"]
    assert [event.warning for event in cluster.events if event.reason == "CanaryAborted"] == [False]
    assert not [name for _, name in cluster.objects if name == "test-canary"]
    request(cluster, SERVE_ANNOTATION, "2@b")
    assert cluster.targets == [(NEW, 100)]


def test_later_student_gets_a_canary_after_an_abort():
    cluster = CanaryScenario.start(rounds=3)
    request(cluster, CANARY_ANNOTATION, "abort@a")
    while len(cluster.status["rounds"]) < 3:
        cluster.run_rounds(3)
    cluster.settle()
    assert (cluster.canary["round"], cluster.canary["phase"]) == (3, "Running")


def test_pause_keeps_a_canary_at_its_step_until_it_is_resumed():
    cluster = CanaryScenario.start()
    request(cluster, CANARY_ANNOTATION, "pause@a")
    cluster.report_traffic(GOOD)
    cluster.wait(600)
    assert (cluster.canary["step"], cluster.progress) == (1, ("True", "Paused"))
    request(cluster, CANARY_ANNOTATION, "resume@b")
    assert cluster.canary["step"] == 2


def test_pause_holds_for_the_next_canary_when_there_is_none():
    serving = {"replicas": 2, "canary": {"steps": STEPS}}
    cluster = CanaryScenario(run_object(rounds={"maxRounds": 2}, promotion={"weights": "adapter"}, serving=serving))
    cluster.run_rounds(1)
    request(cluster, CANARY_ANNOTATION, "pause@a")
    assert accepted(cluster)[0] == "True"
    cluster.run_rounds(2)
    cluster.settle()
    cluster.report_traffic(GOOD)
    cluster.wait(600)
    assert (cluster.canary["step"], cluster.progress) == (1, ("True", "Paused"))


def test_pause_of_a_canary_ends_when_its_field_changes():
    cluster = CanaryScenario.start()
    request(cluster, CANARY_ANNOTATION, "pause@a")
    cluster.edit_canary(paused=True)
    cluster.edit_canary(paused=False)
    cluster.report_traffic(GOOD)
    cluster.wait()
    assert cluster.canary["step"] == 2


def test_resume_overrides_a_pause_of_the_spec():
    cluster = CanaryScenario.start(paused=True)
    assert cluster.progress == ("True", "Paused")
    cluster.report_traffic(BAD)
    request(cluster, CANARY_ANNOTATION, "resume@a")
    assert cluster.canary["phase"] == "Failed"


def test_paused_stages_finish_and_none_starts_until_they_are_resumed():
    cluster = FakeCluster(run_object())
    while "r1-rollout" not in cluster.created:
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            if job["metadata"]["labels"]["distillery.dev/stage"] != "r1-rollout":
                cluster.end_job(job, "Complete", word={"result": {}})
    request(cluster, STAGES_ANNOTATION, "pause@a")
    assert cluster.status["phase"] == "Running"
    assert cluster.status["message"] == (
        "Stages are paused, and none starts. Running: r1-rollout. To resume: distillery resume team/test --stages"
    )
    (job,) = cluster.running_jobs()
    cluster.end_job(job, "Complete", word={"result": {}})
    created = list(cluster.created)
    for _ in range(3):
        cluster.reconcile()
    suspended = cluster.condition("Suspended")
    assert (cluster.status["phase"], suspended["status"], suspended["reason"]) == ("Suspended", "True", "Paused")
    assert cluster.created == created
    request(cluster, STAGES_ANNOTATION, "resume@b")
    assert cluster.condition("Suspended")["status"] == "False"
    assert cluster.run() == "Complete"


def test_paused_run_is_suspended_while_it_waits_for_failures():
    """The phase decides whether recorders are asked, so it must not alternate."""
    cluster = FakeCluster(run_object(**TRIGGERED))
    until_waiting(cluster)
    request(cluster, STAGES_ANNOTATION, "pause@a")
    for number in (0, 50, 0):
        cluster.failures = number
        cluster.reconcile()
        assert cluster.status["phase"] == "Suspended"
    request(cluster, STAGES_ANNOTATION, "resume@b")
    assert cluster.status["phase"] == "Waiting"


def test_resume_of_stages_is_refused_while_the_spec_suspends():
    cluster = FakeCluster(run_object(suspend=True))
    request(cluster, STAGES_ANNOTATION, "resume@a")
    assert (cluster.status["phase"], accepted(cluster)[0]) == ("Suspended", "False")
    assert "spec.suspend is true" in accepted(cluster)[1]


def test_pause_of_stages_is_refused_when_the_run_is_complete():
    cluster = FakeCluster(run_object())
    assert cluster.run() == "Complete"
    request(cluster, STAGES_ANNOTATION, "pause@a")
    assert "the run is complete" in accepted(cluster)[1]
    assert cluster.status["phase"] == "Complete"


def test_request_is_answered_again_when_the_status_was_not_written():
    cluster = two_rounds()
    before = dict(cluster.status)
    request(cluster, SERVE_ANNOTATION, "previous@a")
    cluster.status = before
    cluster.reconcile()
    assert served(cluster) == 1


def test_requests_wait_while_the_spec_is_invalid():
    cluster = CanaryScenario.start()
    steps = cluster.body["spec"]["serving"]["canary"].pop("steps")
    request(cluster, SERVE_ANNOTATION, "2@a")
    assert "requests" not in cluster.status
    cluster.body["spec"]["serving"]["canary"]["steps"] = steps
    cluster.reconcile()
    assert cluster.targets == [(NEW, 100)]


def test_condition_is_absent_when_nothing_was_requested():
    cluster = CanaryScenario(run_object(promotion={"weights": "adapter"}, serving={"canary": {"steps": STEPS}}))
    cluster.run()
    assert "requests" not in cluster.status
    assert not [c for c in cluster.status["conditions"] if c["type"] == "RequestAccepted"]


def test_serve_request_holds_while_the_spec_suspends():
    cluster = FakeCluster(run_object(suspend=True))
    request(cluster, SERVE_ANNOTATION, "0@a")
    assert (cluster.status["phase"], served(cluster)) == ("Suspended", 0)
