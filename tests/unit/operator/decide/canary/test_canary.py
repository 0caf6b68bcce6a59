"""A canary on live traffic, from the first step until it is promoted or rolled back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from distillery.core.api import CANARY_ANNOTATION
from distillery.core.contracts.traffic import Counts
from distillery.core.planner.graph import BASE
from distillery_operator.crd.status_schema import STATUS
from distillery_operator.decide.canary.plan import needs_polling, superseded
from distillery_operator.decide.canary.target import ServingTarget
from distillery_operator.model.observed import Observed
from tests.fakes.cluster import run_object
from tests.unit.operator.decide.canary.scenario import BAD, GOOD, NEW, OLD, STEPS, CanaryScenario


def test_canary_status_has_the_fields_of_the_schema():
    fields = STATUS["properties"]["serving"]["properties"]["canary"]["properties"]
    assert set(CanaryScenario.start().canary) == set(fields)


def test_first_student_is_served_without_a_canary():
    cluster = CanaryScenario(run_object(promotion={"weights": "adapter"}, serving={"canary": {"steps": STEPS}}))
    assert cluster.run() == "Complete"
    assert cluster.targets == [(OLD, 100)]
    assert "canary" not in cluster.status["serving"]


def test_shadow_step_gets_a_copy_of_every_request():
    cluster = CanaryScenario.start()
    assert cluster.desired()["shadows"]["test"] == {"model": f"student-{NEW}", "student": NEW}
    assert [adapter["name"] for adapter in cluster.desired()["adapters"]] == [f"student-{OLD}", f"student-{NEW}"]
    assert cluster.targets == [(OLD, 100)]


@pytest.mark.parametrize(
    ("step", "share"), [(STEPS[0], "gets a copy of every request"), (STEPS[1], "gets 10 % of the sessions")]
)
def test_condition_names_the_share_of_the_step(step: dict[str, Any], share: str):
    cluster = CanaryScenario.start(steps=[step])
    assert cluster.canary["message"] == f"{share}."
    assert cluster.condition("CanaryProgressing")["message"] == f"Step 1 of 1: student {NEW} of round 2 {share}."


def test_canary_goes_through_its_steps_while_stable_serves():
    cluster = CanaryScenario.start()
    for number, shares in ((2, [(OLD, 90), (NEW, 10)]), (3, [(OLD, 50), (NEW, 50)])):
        assert cluster.status["serving"]["student"] == OLD
        assert cluster.condition("Serving")["status"] == "True"
        cluster.report_traffic(GOOD)
        cluster.wait()
        assert (cluster.step, cluster.targets) == ((number, "Starting"), shares)
        cluster.settle()
        assert cluster.canary["phase"] == "Running"


def test_canary_is_promoted_after_its_last_step():
    cluster = CanaryScenario.start()
    for _ in STEPS:
        cluster.settle()
        cluster.report_traffic(GOOD)
        cluster.wait()
    assert cluster.targets == [(NEW, 100)]
    assert "shadows" not in cluster.desired()
    assert (cluster.status["serving"]["student"], cluster.step) == (NEW, (3, "Successful"))
    assert cluster.progress == ("False", "Promoted")
    cluster.settle()
    assert cluster.condition("Serving")["status"] == "True"


def test_promoted_canary_stays_in_the_status():
    cluster = CanaryScenario.start(steps=STEPS[2:])
    cluster.report_traffic(GOOD)
    cluster.wait()
    cluster.settle()
    assert cluster.step == (1, "Successful")


def test_promoted_canary_stays_in_the_status_while_the_next_waits():
    cluster = CanaryScenario.start(steps=STEPS[2:], rounds=3)
    cluster.report_traffic(GOOD)
    cluster.wait()
    cluster.scale(0)
    cluster.run_rounds(3)
    cluster.reconcile()
    assert cluster.progress == ("False", "WaitingForServers")
    assert (cluster.canary["round"], cluster.canary["phase"]) == (2, "Successful")


def test_promotion_is_in_the_history_and_in_the_events():
    cluster = CanaryScenario.start()
    for _ in STEPS:
        cluster.settle()
        cluster.report_traffic(GOOD)
        cluster.wait()
    first, second = cluster.status["serving"]["history"]
    assert first["reason"].startswith(
        "Because. Successful in every step on live traffic (3). Errors are up by at most 0.4"
    )
    assert second["student"] == OLD
    cluster.settle()
    reasons = [event.reason for event in cluster.events if event.reason.startswith("Canary")]
    assert reasons == ["CanaryStepStarted", "CanaryStepStarted", "CanaryStepStarted", "CanaryPromoted"]


def test_step_takes_its_time_from_when_every_pod_has_applied_it():
    cluster = CanaryScenario.start()
    cluster.report_traffic(GOOD)
    cluster.wait(50)
    assert cluster.canary["step"] == 1
    cluster.wait(10)
    assert cluster.canary["step"] == 2
    for _ in range(3):
        cluster.wait()
    assert cluster.step == (2, "Starting"), "no pod has applied it"


def test_worse_canary_is_rolled_back_immediately():
    cluster = CanaryScenario.start()
    cluster.report_traffic(BAD)
    cluster.wait(1)
    assert cluster.targets == [(OLD, 100)]
    assert "shadows" not in cluster.desired()
    assert cluster.canary["phase"] == "Failed"
    assert cluster.canary["canary"]["errors"] == 300
    assert cluster.progress == ("False", "RolledBack")


def test_rollback_is_in_the_history_and_in_the_events():
    cluster = CanaryScenario.start()
    cluster.report_traffic(BAD)
    cluster.wait(1)
    (event,) = (event for event in cluster.events if event.reason == "CanaryRolledBack")
    assert event.warning
    history = cluster.status["serving"]["history"]
    assert [entry["student"] for entry in history] == [OLD, OLD]
    assert history[0]["reason"].startswith(f"student {NEW} of round 2 was rolled back in step 1 of 3. Errors are up")


def test_worse_canary_is_not_tried_again_after_the_rollback():
    cluster = CanaryScenario.start()
    cluster.report_traffic(BAD)
    cluster.wait(1)
    cluster.settle()
    cluster.traffic = {}
    writes = cluster.writes
    for _ in range(5):
        cluster.wait(600)
    assert cluster.targets == [(OLD, 100)]
    assert cluster.writes == writes
    assert len(cluster.status["serving"]["history"]) == 2


def test_rolled_back_student_is_served_when_its_round_is_pinned():
    cluster = CanaryScenario.start()
    cluster.report_traffic(BAD)
    cluster.wait(1)
    cluster.pin(2)
    assert cluster.targets == [(NEW, 100)]
    cluster.pin(None)
    assert cluster.targets == [(NEW, 100)], "a served student is no canary"


def test_rejected_canary_is_forgotten_once_its_student_is_served():
    cluster = CanaryScenario.start()
    cluster.report_traffic(BAD)
    cluster.wait(1)
    cluster.pin(2)
    assert "canary" not in cluster.status["serving"]


def test_rejected_canary_is_remembered_while_another_round_is_pinned():
    cluster = CanaryScenario.start()
    cluster.report_traffic(BAD)
    cluster.wait(1)
    for number in (1, None):
        cluster.pin(number)
        assert (cluster.canary["phase"], cluster.targets) == ("Failed", [(OLD, 100)])


def test_base_model_takes_a_students_place_without_a_canary():
    spec = {"replicas": 1, "canary": {"steps": STEPS}}
    cluster = CanaryScenario(run_object(promotion={"weights": "adapter"}, serving=spec))
    cluster.run_rounds(1, promoted=False)
    cluster.pin(1)
    assert cluster.targets == [(OLD, 100)]
    cluster.pin(None)
    assert cluster.targets == [("base", 100)]


def test_canary_is_aborted_when_the_user_requests_it():
    cluster = CanaryScenario.start()
    cluster.body["metadata"]["annotations"] = {CANARY_ANNOTATION: "abort@a"}
    cluster.reconcile()
    assert (cluster.canary["phase"], cluster.targets) == ("Aborted", [(OLD, 100)])
    assert cluster.progress == ("False", "Aborted")


def test_promoted_student_gets_another_canary_after_a_pin():
    cluster = CanaryScenario.start(steps=[{"weight": 50, "minDurationSeconds": 60}])
    cluster.report_traffic(GOOD)
    cluster.wait()
    assert cluster.status["serving"]["student"] == NEW
    cluster.pin(1)
    assert cluster.targets == [(OLD, 100)]
    cluster.pin(None)
    assert cluster.targets == [(OLD, 50), (NEW, 50)]
    assert cluster.step == (1, "Starting")


def test_later_student_gets_a_canary_after_a_rollback():
    cluster = CanaryScenario.start(rounds=3)
    cluster.report_traffic(BAD)
    cluster.wait(1)
    cluster.run_rounds(3)
    cluster.settle()
    assert (cluster.canary["round"], cluster.canary["step"], cluster.canary["phase"]) == (3, 1, "Running")
    assert cluster.status["serving"]["student"] == OLD


def test_step_is_inconclusive_when_there_is_too_little_traffic():
    cluster = CanaryScenario.start()
    cluster.report_traffic(Counts(50))
    cluster.wait(3600)
    assert cluster.canary["phase"] == "Inconclusive"
    assert cluster.progress == ("True", "Inconclusive")
    assert "50 of 100 requests" in cluster.condition("CanaryProgressing")["message"]
    cluster.report_traffic(GOOD)
    cluster.wait(3600)
    assert cluster.step == (1, "Inconclusive")
    cluster.edit_canary(analysis={"minRequests": 50})
    cluster.settle()
    assert cluster.canary["phase"] == "Running"
    cluster.wait()
    assert cluster.canary["step"] == 2


def test_inconclusive_canary_is_rolled_back_when_it_does_harm():
    cluster = CanaryScenario.start()
    cluster.wait(3600)
    cluster.report_traffic(BAD)
    cluster.wait(5)
    assert cluster.progress == ("False", "RolledBack")


def test_canary_is_inconclusive_when_no_pod_can_load_it():
    cluster = CanaryScenario.begin()
    for _ in range(3):
        cluster.wait(1800)
    assert cluster.canary["phase"] == "Inconclusive"
    assert cluster.targets == [(OLD, 100)]


def test_canary_is_rolled_back_when_pods_do_not_report():
    cluster = CanaryScenario.start()
    cluster.seconds_since_last_report = 119
    cluster.wait(5)
    assert cluster.canary["phase"] == "Running"
    cluster.seconds_since_last_report = 120
    cluster.wait(5)
    assert cluster.canary["phase"] == "Error"
    assert cluster.targets == [(OLD, 100)]
    assert "shadows" not in cluster.desired()


@pytest.mark.parametrize(
    ("number", "student", "what"), [(2, NEW, "Promoted"), (1, OLD, "RolledBack"), (0, "base", "RolledBack")]
)
def test_canary_ends_when_a_round_is_pinned(number: int, student: str, what: str):
    cluster = CanaryScenario.start()
    cluster.pin(number)
    assert cluster.targets == [(student, 100)]
    assert "shadows" not in cluster.desired()
    assert "canary" not in cluster.status["serving"]
    assert cluster.progress == ("False", what)
    assert cluster.reconcile().requeue != 5.0


def test_canary_is_promoted_when_its_spec_is_removed():
    cluster = CanaryScenario.start()
    del cluster.body["spec"]["serving"]["canary"]
    cluster.reconcile()
    assert cluster.targets == [(NEW, 100)]
    assert cluster.progress == ("False", "Promoted")


def test_paused_canary_stays_at_its_step():
    cluster = CanaryScenario.start()
    cluster.edit_canary(paused=True)
    assert cluster.progress == ("True", "Paused")
    for counts in (GOOD, BAD):
        cluster.report_traffic(counts)
        cluster.wait(3600)
        assert cluster.step == (1, "Running")
    cluster.report_traffic(GOOD)
    cluster.edit_canary(paused=False)
    assert cluster.canary["step"] == 2


def test_step_starts_again_when_the_spec_is_edited():
    cluster = CanaryScenario.start()
    cluster.report_traffic(GOOD)
    cluster.now += timedelta(seconds=50)
    cluster.edit_canary(steps=[{"weight": 20, "minDurationSeconds": 60}])
    assert (cluster.canary["step"], cluster.canary["steps"], cluster.canary["phase"]) == (1, 1, "Starting")
    assert cluster.targets == [(OLD, 80), (NEW, 20)]
    cluster.settle()
    cluster.wait(30)
    assert cluster.canary["phase"] == "Running"
    cluster.wait(30)
    assert cluster.canary["phase"] == "Successful"


def test_evidence_is_collected_again_when_pods_restart():
    cluster = CanaryScenario.start()
    cluster.report_traffic(GOOD)
    cluster.wait(50)
    cluster.report_traffic(Counts(), Counts())
    cluster.wait(60)
    assert cluster.step == (1, "Running")
    cluster.report_traffic(GOOD)
    cluster.wait(5)
    assert cluster.canary["step"] == 2


def test_reports_on_another_generation_are_no_evidence():
    cluster = CanaryScenario.start()
    cluster.report_traffic(BAD)
    cluster.generations["test-0"] = 7
    cluster.wait(5)
    assert cluster.canary["phase"] == "Running"


def test_canary_polls_every_five_seconds_and_writes_nothing():
    cluster = CanaryScenario.start()
    writes = cluster.writes
    for number in range(8):
        cluster.report_traffic(Counts(number), Counts(number))
        assert cluster.reconcile().requeue == 5.0
    assert cluster.writes == writes
    assert cluster.status["phase"] == "Complete", "a run that ended looks after its canary"


def test_pods_are_polled_while_a_canary_is_active():
    cluster = CanaryScenario.start()
    assert needs_polling(cluster.status, Observed()) is True
    cluster.report_traffic(BAD)
    cluster.wait(1)
    assert needs_polling(cluster.status, Observed()) is False
    assert needs_polling({}, Observed()) is False


def test_pods_are_polled_while_a_canary_has_servers_of_its_own():
    deployment = CanaryScenario.start(weights="merged").canary_deployment
    assert deployment
    assert needs_polling({}, Observed(deployments={"test-canary": deployment})) is True


@pytest.mark.parametrize("weights", ["adapter", "merged"])
def test_canary_is_aborted_when_the_run_becomes_invalid(weights: str):
    cluster = CanaryScenario.start(weights=weights)
    cluster.body["spec"]["serving"]["feedback"] = {"redactPatterns": ["("]}
    for _ in range(2):
        cluster.reconcile()
        assert cluster.condition("Accepted")["reason"] == "InvalidSpec"
        assert cluster.targets == [(OLD, 100)]
        assert "shadows" not in cluster.desired()
        assert cluster.progress == ("False", "RolledBack")
    cluster.settle()
    assert cluster.canary_deployment is None
    del cluster.body["spec"]["serving"]["feedback"]
    cluster.reconcile()
    assert cluster.step == (1, "Starting")


def test_canary_starts_again_when_servers_come_back():
    cluster = CanaryScenario.start()
    cluster.report_traffic(GOOD)
    cluster.wait()
    assert cluster.canary["step"] == 2
    for _ in range(2):
        cluster.scale(0)
        assert cluster.targets == [(OLD, 100)]
        assert cluster.status["serving"]["student"] == OLD
        assert cluster.progress == ("False", "WaitingForServers")
    cluster.scale(2)
    cluster.settle()
    assert cluster.step == (1, "Running")


def test_canary_is_not_promoted_when_there_are_no_servers():
    cluster = CanaryScenario.begin(replicas=0)
    cluster.reconcile()
    assert cluster.targets == [(OLD, 100)]
    assert cluster.status["phase"] == "Complete"


@pytest.mark.parametrize("weights", ["adapter", "merged"])
def test_rollback_stays_without_servers_and_without_a_canary(weights: str):
    cluster = CanaryScenario.start(weights=weights)
    cluster.report_traffic(BAD)
    cluster.wait(1)
    for replicas in (0, 2):
        cluster.scale(replicas)
        assert (cluster.canary["phase"], cluster.targets) == ("Failed", [(OLD, 100)])
    del cluster.body["spec"]["serving"]["canary"]
    cluster.settle()
    assert (cluster.canary["phase"], cluster.targets) == ("Failed", [(OLD, 100)])
    cluster.pin(2)
    assert cluster.targets == [(NEW, 100)]


def test_harm_is_found_before_every_pod_has_applied_the_step():
    cluster = CanaryScenario.start(steps=STEPS[1:])
    cluster.generations["test-1"] = 0
    cluster.edit_canary(steps=STEPS[2:])
    cluster.generations["test-0"] = cluster.desired()["generation"]
    cluster.traffic = {"test-0": {OLD: GOOD, NEW: BAD}}
    cluster.reconcile()
    assert (cluster.canary["phase"], cluster.targets) == ("Failed", [(OLD, 100)])


def test_step_is_not_successful_before_every_pod_has_applied_it():
    cluster = CanaryScenario.start()
    cluster.edit_canary(steps=[{"weight": 50, "minDurationSeconds": 10, "progressDeadlineSeconds": 3600}])
    cluster.generations["test-0"] = cluster.desired()["generation"]
    cluster.traffic = {"test-0": {OLD: GOOD, NEW: GOOD}}
    cluster.wait(600)
    assert cluster.canary["phase"] == "Starting"


def test_pods_may_be_silent_before_the_first_step_started():
    cluster = CanaryScenario.begin()
    cluster.generations, cluster.seconds_since_last_report = {}, 600  # its only pod was moved, and vLLM takes its time
    cluster.wait(600)
    assert cluster.canary["phase"] == "Starting"
    cluster.wait(3600)
    assert cluster.canary["phase"] == "Inconclusive"
    cluster.wait(5)
    assert cluster.canary["phase"] == "Inconclusive"


def test_silence_between_two_steps_is_an_error():
    cluster = CanaryScenario.start()
    cluster.report_traffic(GOOD)
    cluster.wait()
    assert cluster.step == (2, "Starting")
    cluster.seconds_since_last_report = 120
    cluster.wait(1)
    assert (cluster.canary["phase"], cluster.targets) == ("Error", [(OLD, 100)])


def test_later_student_supersedes_an_active_canary():
    cluster = CanaryScenario.start(rounds=3)
    while len(cluster.status["rounds"]) < 3:
        cluster.run_rounds(3)
    message = f"student {NEW} of round 2 was replaced in step 1 of 3 by student 3abcdef01234 of round 3"
    assert cluster.status["serving"]["history"][0]["reason"].startswith(message)
    assert next(event.message for event in cluster.events if event.reason == "CanarySuperseded").startswith(message)
    cluster.settle()
    assert (cluster.canary["round"], cluster.progress) == (3, ("True", "StepStarted"))
    assert sum("replaced" in entry["reason"] for entry in cluster.status["serving"]["history"]) == 1


def test_nothing_is_superseded_when_there_was_no_canary():
    assert superseded(None, ServingTarget(BASE, "", 0, "")) == ""


def test_canary_is_rolled_back_while_a_missing_round_is_pinned():
    cluster = CanaryScenario.start(rounds=3)
    cluster.body["spec"]["serving"]["pinnedRound"] = 3
    writes = cluster.writes
    for _ in range(3):
        cluster.reconcile()
        assert cluster.targets == [(OLD, 100)]
        assert "shadows" not in cluster.desired()
        assert cluster.condition("Serving")["reason"] == "StudentNotFound"
        assert cluster.progress == ("False", "RolledBack")
    assert cluster.writes <= writes + 2
    cluster.pin(None)
    assert (cluster.canary["round"], cluster.canary["phase"]) == (2, "Starting")
