"""A newcomer on live traffic: from the first step to all of it, or back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from distillery_operator.crd.status_schema import STATUS
from distillery_operator.decide.canary.analysis import Counts
from distillery_operator.manifests.names import STAGE_LABEL
from distillery_operator.model.objects import Manifest
from tests.fakes.cluster import FakeCluster, result_of, run_object

STEPS = [
    {"shadow": True, "minDurationSeconds": 60},
    {"weight": 10, "minDurationSeconds": 60},
    {"weight": 50, "minDurationSeconds": 60},
]
OLD, NEW = "1abcdef01234", "2abcdef01234"
GOOD, BAD = Counts(1000), Counts(1000, 300)


def play(cluster: FakeCluster, rounds: int, *, promoted: bool = True) -> None:
    """Until so many rounds have ended."""
    for _ in range(400):
        if len(cluster.status.get("rounds", [])) == rounds:
            return
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            result = result_of(job["metadata"]["labels"][STAGE_LABEL], promoted=promoted)
            cluster.end_job(job, "Complete", word={"result": result})
    raise AssertionError(f"the round does not end: {cluster.status}")


def on_trial(*, weights: str = "adapter", rounds: int = 2, replicas: int = 2, **canary: Any) -> FakeCluster:
    """A cluster whose second student has just been told of to every pod, for its first step."""
    serving = {"replicas": replicas, "canary": {"steps": STEPS, **canary}}
    cluster = FakeCluster(run_object(rounds={"maxRounds": rounds}, promotion={"weights": weights}, serving=serving))
    play(cluster, 2)
    settle(cluster)
    return cluster


def settle(cluster: FakeCluster, looks: int = 4) -> None:
    """Pods take over what they are told, and say so."""
    for _ in range(looks):
        cluster.get_ready()
        cluster.reconcile()


def traffic(cluster: FakeCluster, newcomer: Counts, incumbent: Counts = GOOD) -> None:
    """What both pods say together."""
    half = Counts()
    cluster.live = {"test-0": {OLD: incumbent, NEW: newcomer}, "test-1": {OLD: half, NEW: half}}


def later(cluster: FakeCluster, seconds: float = 60) -> None:
    cluster.now += timedelta(seconds=seconds)
    cluster.reconcile()


def trial(cluster: FakeCluster) -> dict[str, Any]:
    return cluster.status["serving"]["canary"]


def news(cluster: FakeCluster) -> tuple[str, str]:
    condition = cluster.condition("CanaryProgressing")
    return condition["status"], condition["reason"]


def targets(cluster: FakeCluster) -> list[tuple[str, int]]:
    return [(target["student"], target.get("weight", 100)) for target in cluster.desired()["aliases"]["test"]]


def pin(cluster: FakeCluster, number: int | None) -> None:
    cluster.body["spec"]["serving"].pop("pinnedRound", None)
    if number is not None:
        cluster.body["spec"]["serving"]["pinnedRound"] = number
    cluster.reconcile()


def edit(cluster: FakeCluster, **canary: Any) -> None:
    cluster.body["spec"]["serving"]["canary"] |= canary
    cluster.reconcile()


def test_the_status_of_a_canary_has_the_fields_of_the_schema():
    fields = STATUS["properties"]["serving"]["properties"]["canary"]["properties"]
    assert set(trial(on_trial())) == set(fields)


def test_the_first_student_is_served_at_once_for_nothing_was_served_before():
    cluster = FakeCluster(run_object(promotion={"weights": "adapter"}, serving={"canary": {"steps": STEPS}}))
    assert cluster.run() == "Complete"
    assert targets(cluster) == [(OLD, 100)]
    assert "canary" not in cluster.status["serving"]


def test_a_newcomer_goes_through_its_steps_and_is_served_to_all():
    cluster = on_trial()
    assert cluster.desired()["shadows"]["test"] == {"model": f"student-{NEW}", "student": NEW}
    assert [adapter["name"] for adapter in cluster.desired()["adapters"]] == [f"student-{OLD}", f"student-{NEW}"]
    assert targets(cluster) == [(OLD, 100)]
    for number, shares in ((2, [(OLD, 90), (NEW, 10)]), (3, [(OLD, 50), (NEW, 50)])):
        assert cluster.status["serving"]["student"] == OLD
        assert cluster.condition("Serving")["status"] == "True"
        traffic(cluster, GOOD)
        later(cluster)
        assert (trial(cluster)["step"], trial(cluster)["phase"]) == (number, "Starting")
        assert targets(cluster) == shares
        settle(cluster)
        assert trial(cluster)["phase"] == "Running"
    traffic(cluster, GOOD)
    later(cluster)
    assert targets(cluster) == [(NEW, 100)]
    assert "shadows" not in cluster.desired()
    assert (cluster.status["serving"]["student"], trial(cluster)["phase"]) == (NEW, "Successful")
    assert news(cluster) == ("False", "Promoted")
    first, second = cluster.status["serving"]["history"]
    assert first["reason"].startswith(
        "Because. Successful in every step on live traffic (3). Errors are up by at most 0.4"
    )
    assert second["student"] == OLD
    settle(cluster)
    assert cluster.condition("Serving")["status"] == "True"
    told = [event.reason for event in cluster.events if event.reason.startswith("Canary")]
    assert told == ["CanaryStepStarted", "CanaryStepStarted", "CanaryStepStarted", "CanaryPromoted"]


def test_a_step_takes_its_time_from_when_every_pod_knows_of_it():
    cluster = on_trial()
    traffic(cluster, GOOD)
    later(cluster, 50)
    assert trial(cluster)["step"] == 1
    later(cluster, 10)
    assert trial(cluster)["step"] == 2
    for _ in range(3):
        later(cluster)
    assert (trial(cluster)["step"], trial(cluster)["phase"]) == (2, "Starting"), "no pod has taken it over"


def test_a_worse_newcomer_is_taken_back_at_once_and_not_tried_again():
    cluster = on_trial()
    traffic(cluster, BAD)
    later(cluster, 1)
    assert targets(cluster) == [(OLD, 100)]
    assert "shadows" not in cluster.desired()
    assert trial(cluster)["phase"] == "Failed"
    assert trial(cluster)["canary"]["errors"] == 300
    assert news(cluster) == ("False", "RolledBack")
    (event,) = (event for event in cluster.events if event.reason == "CanaryRolledBack")
    assert event.warning
    history = cluster.status["serving"]["history"]
    assert [entry["student"] for entry in history] == [OLD, OLD]
    assert history[0]["reason"].startswith(f"student {NEW} of round 2 was rolled back in step 1 of 3. Errors are up")
    settle(cluster)
    cluster.live = {}
    writes = cluster.writes
    for _ in range(5):
        later(cluster, 600)
    assert targets(cluster) == [(OLD, 100)]
    assert cluster.writes == writes
    assert len(cluster.status["serving"]["history"]) == 2


def test_a_newcomer_that_was_taken_back_is_served_to_whoever_pins_it():
    cluster = on_trial()
    traffic(cluster, BAD)
    later(cluster, 1)
    pin(cluster, 2)
    assert targets(cluster) == [(NEW, 100)]
    pin(cluster, None)
    assert targets(cluster) == [(NEW, 100)], "what is served is no newcomer"


def test_a_newcomer_that_was_promoted_and_rolled_back_is_tried_again_once_it_is_to_be_served_again():
    cluster = on_trial(steps=[{"weight": 50, "minDurationSeconds": 60}])
    traffic(cluster, GOOD)
    later(cluster)
    assert cluster.status["serving"]["student"] == NEW
    pin(cluster, 1)
    assert targets(cluster) == [(OLD, 100)]
    pin(cluster, None)
    assert targets(cluster) == [(OLD, 50), (NEW, 50)]
    assert (trial(cluster)["step"], trial(cluster)["phase"]) == (1, "Starting")


def test_a_later_rounds_student_is_tried_after_one_that_was_taken_back():
    cluster = on_trial(rounds=3)
    traffic(cluster, BAD)
    later(cluster, 1)
    play(cluster, 3)
    settle(cluster)
    assert (trial(cluster)["round"], trial(cluster)["step"], trial(cluster)["phase"]) == (3, 1, "Running")
    assert cluster.status["serving"]["student"] == OLD


def test_too_little_traffic_is_inconclusive_until_the_user_decides():
    cluster = on_trial()
    traffic(cluster, Counts(50))
    later(cluster, 3600)
    assert trial(cluster)["phase"] == "Inconclusive"
    assert news(cluster) == ("True", "Inconclusive")
    assert "50 of 100 requests" in cluster.condition("CanaryProgressing")["message"]
    traffic(cluster, GOOD)
    later(cluster, 3600)
    assert (trial(cluster)["step"], trial(cluster)["phase"]) == (1, "Inconclusive")
    edit(cluster, analysis={"minRequests": 50})
    settle(cluster)
    assert trial(cluster)["phase"] == "Running"
    later(cluster)
    assert trial(cluster)["step"] == 2


def test_harm_is_not_waited_for_where_a_step_is_inconclusive():
    cluster = on_trial()
    later(cluster, 3600)
    traffic(cluster, BAD)
    later(cluster, 5)
    assert news(cluster) == ("False", "RolledBack")


def test_a_newcomer_that_no_pod_can_hold_is_inconclusive_and_the_incumbent_serves_on():
    cluster = FakeCluster(
        run_object(rounds={"maxRounds": 2}, promotion={"weights": "adapter"}, serving={"canary": {"steps": STEPS}})
    )
    play(cluster, 2)
    for _ in range(3):
        later(cluster, 1800)
    assert trial(cluster)["phase"] == "Inconclusive"
    assert targets(cluster) == [(OLD, 100)]


def test_pods_that_can_not_be_asked_for_long_are_an_error_and_bring_the_incumbent_back():
    cluster = on_trial()
    cluster.silence = 119
    later(cluster, 5)
    assert trial(cluster)["phase"] == "Running"
    cluster.silence = 120
    later(cluster, 5)
    assert trial(cluster)["phase"] == "Error"
    assert targets(cluster) == [(OLD, 100)]
    assert "shadows" not in cluster.desired()


@pytest.mark.parametrize(
    ("number", "student", "what"), [(2, NEW, "Promoted"), (1, OLD, "RolledBack"), (0, "base", "RolledBack")]
)
def test_a_pinned_round_ends_a_canary_at_once(number: int, student: str, what: str):
    cluster = on_trial()
    pin(cluster, number)
    assert targets(cluster) == [(student, 100)]
    assert "shadows" not in cluster.desired()
    assert "canary" not in cluster.status["serving"]
    assert news(cluster) == ("False", what)
    assert cluster.reconcile().requeue != 5.0


def test_a_canary_whose_configuration_is_taken_away_is_served_to_all():
    cluster = on_trial()
    del cluster.body["spec"]["serving"]["canary"]
    cluster.reconcile()
    assert targets(cluster) == [(NEW, 100)]
    assert news(cluster) == ("False", "Promoted")


def test_a_paused_canary_stays_where_it_is():
    cluster = on_trial()
    edit(cluster, paused=True)
    assert news(cluster) == ("True", "Paused")
    for counts in (GOOD, BAD):
        traffic(cluster, counts)
        later(cluster, 3600)
        assert (trial(cluster)["step"], trial(cluster)["phase"]) == (1, "Running")
    traffic(cluster, GOOD)
    edit(cluster, paused=False)
    assert trial(cluster)["step"] == 2


def test_an_edit_begins_the_step_anew():
    cluster = on_trial()
    traffic(cluster, GOOD)
    cluster.now += timedelta(seconds=50)
    edit(cluster, steps=[{"weight": 20, "minDurationSeconds": 60}])
    assert (trial(cluster)["step"], trial(cluster)["steps"], trial(cluster)["phase"]) == (1, 1, "Starting")
    assert targets(cluster) == [(OLD, 80), (NEW, 20)]
    settle(cluster)
    later(cluster, 30)
    assert trial(cluster)["phase"] == "Running"
    later(cluster, 30)
    assert trial(cluster)["phase"] == "Successful"


def test_pods_that_started_again_gather_their_evidence_anew():
    cluster = on_trial()
    traffic(cluster, GOOD)
    later(cluster, 50)
    traffic(cluster, Counts(), Counts())
    later(cluster, 60)
    assert (trial(cluster)["step"], trial(cluster)["phase"]) == (1, "Running")
    traffic(cluster, GOOD)
    later(cluster, 5)
    assert trial(cluster)["step"] == 2


def test_what_pods_say_of_another_table_is_no_evidence():
    cluster = on_trial()
    traffic(cluster, BAD)
    cluster.generations["test-0"] = 7
    later(cluster, 5)
    assert trial(cluster)["phase"] == "Running"


def test_looks_cost_no_writes_and_come_every_five_seconds():
    cluster = on_trial()
    writes = cluster.writes
    for number in range(8):
        traffic(cluster, Counts(number), Counts(number))
        assert cluster.reconcile().requeue == 5.0
    assert cluster.writes == writes
    assert cluster.status["phase"] == "Complete", "a run that ended looks after its canary"


def canary_deployment(cluster: FakeCluster) -> Manifest | None:
    return cluster.objects.get(("Deployment", "test-canary"))


@pytest.mark.parametrize("weights", ["adapter", "merged"])
def test_a_run_that_can_not_be_read_any_more_leaves_a_newcomer_nothing(weights: str):
    cluster = on_trial(weights=weights)
    cluster.body["spec"]["serving"]["feedback"] = {"redactPatterns": ["("]}
    for _ in range(2):
        cluster.reconcile()
        assert cluster.condition("Accepted")["reason"] == "InvalidSpec"
        assert targets(cluster) == [(OLD, 100)]
        assert "shadows" not in cluster.desired()
        assert news(cluster) == ("False", "RolledBack")
    settle(cluster)
    assert canary_deployment(cluster) is None
    del cluster.body["spec"]["serving"]["feedback"]
    cluster.reconcile()
    assert (trial(cluster)["step"], trial(cluster)["phase"]) == (1, "Starting")


def scale(cluster: FakeCluster, replicas: int) -> None:
    cluster.body["spec"]["serving"]["replicas"] = replicas
    cluster.reconcile()


def test_without_servers_a_newcomer_waits_and_begins_anew_once_there_are_some():
    cluster = on_trial()
    traffic(cluster, GOOD)
    later(cluster)
    assert trial(cluster)["step"] == 2
    for _ in range(2):
        scale(cluster, 0)
        assert targets(cluster) == [(OLD, 100)]
        assert cluster.status["serving"]["student"] == OLD
        assert news(cluster) == ("False", "WaitingForServers")
    scale(cluster, 2)
    settle(cluster)
    assert (trial(cluster)["step"], trial(cluster)["phase"]) == (1, "Running")


def test_a_newcomer_that_never_had_servers_to_prove_itself_on_is_not_served():
    serving = {"replicas": 0, "canary": {"steps": STEPS}}
    cluster = FakeCluster(run_object(rounds={"maxRounds": 2}, promotion={"weights": "adapter"}, serving=serving))
    play(cluster, 2)
    cluster.reconcile()
    assert targets(cluster) == [(OLD, 100)]
    assert cluster.status["phase"] == "Complete"


@pytest.mark.parametrize("weights", ["adapter", "merged"])
def test_what_was_taken_back_stays_so_without_servers_and_without_a_canary(weights: str):
    cluster = on_trial(weights=weights)
    traffic(cluster, BAD)
    later(cluster, 1)
    for replicas in (0, 2):
        scale(cluster, replicas)
        assert (trial(cluster)["phase"], targets(cluster)) == ("Failed", [(OLD, 100)])
    del cluster.body["spec"]["serving"]["canary"]
    settle(cluster)
    assert (trial(cluster)["phase"], targets(cluster)) == ("Failed", [(OLD, 100)])
    pin(cluster, 2)
    assert targets(cluster) == [(NEW, 100)]


def test_a_newcomer_that_does_harm_is_taken_back_before_every_pod_knows_of_it():
    cluster = on_trial(steps=STEPS[1:])
    cluster.generations["test-1"] = 0
    edit(cluster, steps=STEPS[2:])
    cluster.generations["test-0"] = cluster.desired()["generation"]
    cluster.live = {"test-0": {OLD: GOOD, NEW: BAD}}
    cluster.reconcile()
    assert (trial(cluster)["phase"], targets(cluster)) == ("Failed", [(OLD, 100)])


def test_a_step_that_has_not_begun_for_every_pod_is_not_successful():
    cluster = on_trial()
    edit(cluster, steps=[{"weight": 50, "minDurationSeconds": 10, "progressDeadlineSeconds": 3600}])
    cluster.generations["test-0"] = cluster.desired()["generation"]
    cluster.live = {"test-0": {OLD: GOOD, NEW: GOOD}}
    later(cluster, 600)
    assert trial(cluster)["phase"] == "Starting"


def test_silence_before_the_first_step_began_is_waited_for():
    cluster = FakeCluster(
        run_object(rounds={"maxRounds": 2}, promotion={"weights": "adapter"}, serving={"canary": {"steps": STEPS}})
    )
    play(cluster, 2)
    cluster.generations, cluster.silence = {}, 600  # its only pod was moved, and vLLM takes its time
    later(cluster, 600)
    assert trial(cluster)["phase"] == "Starting"
    later(cluster, 3600)
    assert trial(cluster)["phase"] == "Inconclusive"
    later(cluster, 5)
    assert trial(cluster)["phase"] == "Inconclusive"


def test_silence_after_a_step_is_an_error_before_the_next_one_began():
    cluster = on_trial()
    traffic(cluster, GOOD)
    later(cluster)
    assert (trial(cluster)["step"], trial(cluster)["phase"]) == (2, "Starting")
    cluster.silence = 120
    later(cluster, 1)
    assert (trial(cluster)["phase"], targets(cluster)) == ("Error", [(OLD, 100)])


def test_a_later_winner_takes_the_place_of_one_on_trial_which_is_told():
    cluster = on_trial(rounds=3)
    while len(cluster.status["rounds"]) < 3:
        play(cluster, 3)
    told = f"student {NEW} of round 2 was replaced in step 1 of 3 by student 3abcdef01234 of round 3"
    assert cluster.status["serving"]["history"][0]["reason"].startswith(told)
    assert next(event.message for event in cluster.events if event.reason == "CanarySuperseded").startswith(told)
    settle(cluster)
    assert (trial(cluster)["round"], news(cluster)) == (3, ("True", "StepStarted"))
    assert sum("replaced" in entry["reason"] for entry in cluster.status["serving"]["history"]) == 1


def test_a_round_that_is_named_and_not_there_ends_a_canary_until_it_is_named_no_more():
    cluster = on_trial(rounds=3)
    cluster.body["spec"]["serving"]["pinnedRound"] = 3
    writes = cluster.writes
    for _ in range(3):
        cluster.reconcile()
        assert targets(cluster) == [(OLD, 100)]
        assert "shadows" not in cluster.desired()
        assert cluster.condition("Serving")["reason"] == "StudentNotFound"
        assert news(cluster) == ("False", "RolledBack")
    assert cluster.writes <= writes + 2
    pin(cluster, None)
    assert (trial(cluster)["round"], trial(cluster)["phase"]) == (2, "Starting")
