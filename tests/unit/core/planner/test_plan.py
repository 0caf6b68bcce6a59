"""The planner is a pure function, and its graph is the loop."""

from __future__ import annotations

from typing import Any

import pytest

from distillery.core.api import Spec, parse
from distillery.core.planner import Kind, Model, Plan, PlanPhase, StageId, StagePhase, StageResult, StageState, plan
from distillery.core.planner.graph import BASE, PREPARE, Lineage, round_stages, student_model
from distillery.core.planner.plan import find_outgrown, find_pending
from distillery.core.planner.plays import own_temperatures
from tests.unit.documents import document


def candidate_of(round: int) -> Model:
    return student_model(round, "distilled")


ALL_ARMS = [
    "baseline", "rag", "placebo", "sft", "distilled", "distilled+rag", "placebo-distilled", "sft-matched",
    "distilled-matched", "placebo-distilled-matched", "sft-unfiltered", "distilled-unfiltered",
    "placebo-distilled-unfiltered",
]  # fmt: skip


def spec_of(**parts: Any) -> Spec:
    return parse(document(**parts)).spec


def succeeded(result: dict[str, Any]) -> StageState:
    return StageState(StagePhase.SUCCEEDED, result=StageResult.read(result))


def promote_result(*, promoted: bool = True, metric: float = 0.5) -> dict[str, Any]:
    verdict = "Successful" if promoted else "Inconclusive"
    return {"gate": {"verdict": verdict, "reason": "Because."}, "promoted": promoted, "metric": metric}


def result_of(stage: StageId, verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    match stage.kind:
        case Kind.PROMOTE:
            return verdicts[stage.round - 1]
        case Kind.TRAIN:
            return {"student": "0123456789abcdef"}
        case _:
            return {}


def run_to_the_end(spec: Spec, verdicts: list[dict[str, Any]]) -> tuple[Plan, list[StageId]]:
    """Let every stage succeed as soon as it is started; the rounds end with the given verdicts."""
    observed: dict[StageId, StageState] = {}
    order = []
    for _ in range(500):
        current = plan(spec, observed)
        if current.phase is not PlanPhase.RUNNING:
            return current, order
        assert current.start, "a running plan without anything running has something to start"
        for stage in current.start:
            assert all(observed[need].phase is StagePhase.SUCCEEDED for need in stage.needs)
            observed[stage.id] = succeeded(result_of(stage.id, verdicts))
            order.append(stage.id)
    raise AssertionError("the plan never ends")


def test_plan_goes_from_play_to_promotion_when_stages_succeed():
    end, order = run_to_the_end(spec_of(), [promote_result()])
    assert end.phase is PlanPhase.COMPLETE
    kinds = list(dict.fromkeys(stage.kind for stage in order))
    assert kinds[0] is Kind.PREPARE
    assert kinds[1] is Kind.ROLLOUT
    assert kinds[-1] is Kind.PROMOTE
    assert end.serving.trained_by == StageId(1, Kind.TRAIN, "distilled")


def test_round_stages_play_each_arm_once():
    stages = round_stages(spec_of(evaluation={"arms": ALL_ARMS}), 1, Lineage())
    judged = [arm for stage in stages if stage.id.kind is Kind.EVALUATE for arm in stage.arms]
    assert sorted(judged) == sorted(ALL_ARMS)


def test_round_stages_come_after_what_they_need():
    stages = round_stages(spec_of(evaluation={"arms": ALL_ARMS}), 1, Lineage())
    seen = {PREPARE}
    for stage in stages:
        assert set(stage.needs) <= seen
        seen.add(stage.id)


def test_round_stages_leave_out_controls_when_no_arm_needs_them():
    spec = spec_of(evaluation={"arms": ["baseline", "distilled"]})
    names = [str(stage.id) for stage in round_stages(spec, 1, Lineage())]
    assert "r1-teach-placebo" not in names
    assert "r1-train-sft" not in names


def test_matched_student_needs_every_arm_that_it_is_matched_with():
    stages = {str(s.id): s for s in round_stages(spec_of(evaluation={"arms": ALL_ARMS}), 1, Lineage())}
    needed = {str(sid) for sid in stages["r1-train-sft-matched"].needs}
    assert needed == {"prepare", "r1-rollout", "r1-teach", "r1-teach-placebo", "r1-evaluate-baseline"}
    two = ["baseline", "distilled", "placebo-distilled", "sft-matched", "distilled-matched"]
    stages = {str(s.id): s for s in round_stages(spec_of(evaluation={"arms": two}), 1, Lineage())}
    assert "r1-teach-placebo" not in [str(sid) for sid in stages["r1-train-sft-matched"].needs]


def test_next_round_plays_the_student_when_it_was_promoted():
    spec = spec_of(rounds={"maxRounds": 2})
    observed: dict[StageId, StageState] = {}
    while not (second := [s for s in plan(spec, observed).start if s.id == StageId(2, Kind.ROLLOUT)]):
        current = plan(spec, observed)
        assert current.start, "the second round does not start"
        for stage in current.start:
            observed[stage.id] = succeeded(result_of(stage.id, [promote_result()]))
    assert second[0].player is not None
    assert second[0].player.trained_by == StageId(1, Kind.TRAIN, "distilled")


def test_plan_serves_the_base_model_when_no_candidate_was_promoted():
    end, _ = run_to_the_end(spec_of(rounds={"maxRounds": 2}), [promote_result(promoted=False)] * 2)
    assert end.serving == BASE


def test_plan_serves_the_former_student_when_a_candidate_fails():
    end, _ = run_to_the_end(spec_of(rounds={"maxRounds": 2}), [promote_result(), promote_result(promoted=False)])
    assert end.serving.trained_by == StageId(1, Kind.TRAIN, "distilled")


def result_on(stage: StageId, verdicts: list[dict[str, Any]], number: int) -> dict[str, Any]:
    """With how many held-out tasks the stage knows of, if it knows of them."""
    knows = stage.kind in (Kind.PREPARE, Kind.EVALUATE, Kind.PROMOTE)
    return result_of(stage, verdicts) | ({"heldOutTasks": number} if knows else {})


def judged_on(number: int, verdicts: list[dict[str, Any]]) -> dict[StageId, StageState]:
    """A run that is complete."""
    spec = wanting(number, len(verdicts))
    observed: dict[StageId, StageState] = {}
    while (current := plan(spec, observed)).phase is PlanPhase.RUNNING:
        for stage in current.start:
            assert stage.id not in observed
            observed[stage.id] = succeeded(result_on(stage.id, verdicts, number))
    return observed


def wanting(number: int, rounds: int) -> Spec:
    return spec_of(rounds={"maxRounds": rounds}, environment={"tasks": {"train": 2, "evaluate": number}})


def test_last_round_is_judged_again_when_held_out_tasks_are_added():
    won, lost = promote_result(), promote_result(promoted=False)
    observed = judged_on(100, [won, lost])
    assert plan(wanting(100, 2), observed).phase is PlanPhase.COMPLETE
    started = list[str]()
    while (current := plan(wanting(200, 2), observed)).phase is PlanPhase.RUNNING:
        # what is served meanwhile is served on
        assert (current.round, current.serving.trained_by) == (2, StageId(1, Kind.TRAIN, "distilled"))
        for stage in current.start:
            assert str(stage.id) not in started
            started.append(str(stage.id))
            observed[stage.id] = succeeded(result_on(stage.id, [won, won], 200))
    assert started == [
        "prepare", "r2-evaluate-baseline", "r2-evaluate-base", "r2-evaluate-sft", "r2-evaluate-distilled",
        "r2-promote",
    ]  # fmt: skip
    assert (current.phase, current.serving.trained_by) == (PlanPhase.COMPLETE, StageId(2, Kind.TRAIN, "distilled"))


def test_round_that_promoted_keeps_its_verdict_when_tasks_are_added():
    observed = judged_on(100, [promote_result(promoted=False), promote_result()])
    assert plan(wanting(200, 2), observed).phase is PlanPhase.COMPLETE
    # the next round has them
    current = plan(wanting(200, 3), observed)
    assert (current.round, [str(stage.id) for stage in current.start]) == (3, ["prepare"])
    assert len(current.verdicts) == 2


@pytest.mark.parametrize("phase", [StagePhase.RUNNING, StagePhase.FAILED])
def test_only_what_succeeded_starts_again_when_tasks_are_added(phase: StagePhase):
    observed = judged_on(100, [promote_result(promoted=False)])
    observed[StageId(1, Kind.PROMOTE)] = StageState(phase)
    outgrown = sorted(str(sid) for sid in find_outgrown(wanting(200, 1), observed))
    assert outgrown == ["prepare", "r1-evaluate-baseline", "r1-evaluate-distilled", "r1-evaluate-sft"]


def test_stages_are_outgrown_when_the_round_has_no_verdict_yet():
    observed = {PREPARE: succeeded({"heldOutTasks": 100})}
    assert find_outgrown(wanting(200, 1), observed) == {PREPARE}


def test_plan_is_complete_when_patience_is_used_up():
    verdicts = [promote_result(), promote_result(promoted=False), promote_result(promoted=False), promote_result()]
    end, _ = run_to_the_end(spec_of(rounds={"maxRounds": 9, "patience": 2}), verdicts)
    assert len(end.verdicts) == 3
    assert "No promotion in 2 rounds" in end.message


def test_plan_is_complete_when_the_target_is_reached():
    end, _ = run_to_the_end(
        spec_of(rounds={"maxRounds": 9, "target": {"minValue": 0.9}}),
        [promote_result(metric=0.8), promote_result(metric=0.92)],
    )
    assert len(end.verdicts) == 2
    assert "Reached success 0.920" in end.message


def test_target_is_reached_by_exactly_its_value():
    spec = spec_of(rounds={"maxRounds": 9, "target": {"minValue": 0.9}})
    end, _ = run_to_the_end(spec, [promote_result(metric=0.9)])
    assert end.message.startswith("Reached success 0.900, the target is 0.900.")


@pytest.mark.parametrize(("patience", "words"), [(1, "1 round in a row."), (2, "2 rounds in a row.")])
def test_patience_ends_after_exactly_as_many_rounds(patience: int, words: str):
    spec = spec_of(rounds={"maxRounds": 9, "patience": patience})
    end, _ = run_to_the_end(spec, [promote_result(promoted=False)] * patience)
    assert end.message.startswith(f"No promotion in {words}")


@pytest.mark.parametrize(("rounds", "words"), [(1, "1 round."), (2, "2 rounds.")])
def test_message_counts_the_rounds_when_all_have_ended(rounds: int, words: str):
    end, _ = run_to_the_end(spec_of(rounds={"maxRounds": rounds}), [promote_result()] * rounds)
    assert end.message.startswith(f"Ended after {words}")


def test_target_is_not_reached_when_no_student_was_promoted():
    end, _ = run_to_the_end(
        spec_of(rounds={"maxRounds": 2, "target": {"minValue": 0.5}}),
        [promote_result(promoted=False, metric=0.95), promote_result(promoted=False, metric=0.95)],
    )
    assert len(end.verdicts) == 2


def test_failed_stage_starts_again_until_its_retries_are_used_up():
    spec = spec_of(stages={"prepare": {"maxRetries": 1}})
    once = plan(spec, {PREPARE: StageState(StagePhase.FAILED, attempts=1, message="boom")})
    assert [stage.id for stage in once.start] == [PREPARE]
    twice = plan(spec, {PREPARE: StageState(StagePhase.FAILED, attempts=2, message="boom")})
    assert twice.phase is PlanPhase.FAILED
    assert twice.message == "Stage prepare failed after 2 attempts: boom"


def test_plan_fails_when_a_failure_is_permanent():
    failed = plan(spec_of(), {PREPARE: StageState(StagePhase.FAILED, permanent=True, message="no such model")})
    assert failed.phase is PlanPhase.FAILED


def test_plan_starts_nothing_when_the_stage_is_running():
    current = plan(spec_of(), {PREPARE: StageState(StagePhase.RUNNING)})
    assert current.start == ()
    assert current.running == (PREPARE,)


def test_plan_starts_as_many_stages_as_fit_when_more_are_ready():
    spec = spec_of(stages={"maxParallel": 1}, evaluation={"arms": ALL_ARMS})
    observed: dict[StageId, StageState] = {}
    while len((current := plan(spec, observed)).ready) < 2:
        for stage in current.ready:
            observed[stage.id] = succeeded(result_of(stage.id, []))
    assert current.start == current.ready[:1]
    assert current.message == f"Round 1 of 1: {current.start[0].id}."
    running = plan(spec, observed | {current.start[0].id: StageState(StagePhase.RUNNING)})
    assert (running.start, running.ready) == ((), current.ready[1:])
    assert running.message == current.message


@pytest.mark.parametrize(
    "name", ["prepare", "r1-rollout", "r12-train-placebo-distilled-matched", "r2-evaluate-baseline"]
)
def test_stage_id_parses_its_own_name(name: str):
    assert str(StageId.parse(name)) == name


def test_stage_needs_no_player_when_its_student_learned_nothing():
    spec = spec_of(evaluation={"arms": ["baseline", "distilled"]})
    observed: dict[StageId, StageState] = {}
    while not (judged := [s for s in plan(spec, observed).start if s.id.variant == "distilled" and s.arms]):
        for stage in plan(spec, observed).start:
            result = {"student": None} if stage.id.kind is Kind.TRAIN else {}
            observed[stage.id] = succeeded(result)
    assert judged[0].id == StageId(1, Kind.EVALUATE, "distilled")
    assert judged[0].player is None


TRIGGERED: dict[str, Any] = {
    "rounds": {"maxRounds": 2, "trigger": {"minFailures": 50}},
    "serving": {"feedback": {}},
}


def after_round_one(spec: Spec, **more: StageState) -> dict[StageId, StageState]:
    """Every stage of round 1 succeeded; ``more`` of round 2, by name."""
    observed: dict[StageId, StageState] = {}
    while (current := plan(spec, observed, failures=0)).start and current.round == 1:
        for stage in current.start:
            observed[stage.id] = succeeded(result_of(stage.id, [promote_result()]))
    return observed | {StageId.parse(name.replace("_", "-")): state for name, state in more.items()}


@pytest.mark.parametrize(
    ("failures", "phase"),
    [(0, PlanPhase.WAITING), (49, PlanPhase.WAITING), (50, PlanPhase.RUNNING), (51, PlanPhase.RUNNING)],
)
def test_later_round_waits_until_its_trigger_fires(failures: int, phase: PlanPhase):
    spec = spec_of(**TRIGGERED)
    current = plan(spec, after_round_one(spec), failures=failures)
    assert (current.phase, current.round) == (phase, 2)
    assert bool(current.start) is (phase is PlanPhase.RUNNING)
    assert current.serving.trained_by == StageId(1, Kind.TRAIN, "distilled")


def names_of(pending: tuple[StageId, ...]) -> list[str]:
    return [str(sid) for sid in pending]


def test_pending_stages_are_those_of_the_round_that_did_not_start():
    spec = spec_of(evaluation={"arms": ["baseline", "distilled"]})
    started = {PREPARE, StageId(1, Kind.ROLLOUT)}
    pending = names_of(find_pending(spec, plan(spec, {}), started))
    assert pending == [
        "r1-hints", "r1-teach", "r1-evaluate-baseline", "r1-train-distilled", "r1-evaluate-distilled", "r1-promote",
    ]  # fmt: skip


def test_stages_are_still_pending_when_the_run_failed():
    observed = {PREPARE: StageState(StagePhase.FAILED, permanent=True)}
    assert "r1-rollout" in names_of(find_pending(spec_of(), plan(spec_of(), observed), observed))


def test_no_stage_is_pending_when_the_run_is_complete():
    spec = spec_of(rounds={"maxRounds": 1})
    assert find_pending(spec, plan(spec, after_round_one(spec)), ()) == ()


def test_no_stage_is_pending_when_the_next_round_waits():
    spec = spec_of(**TRIGGERED)
    assert find_pending(spec, plan(spec, after_round_one(spec)), ()) == ()


def test_first_round_starts_when_a_trigger_is_set():
    assert plan(spec_of(**TRIGGERED), {}).phase is PlanPhase.RUNNING


def test_started_round_continues_when_its_failures_are_used_up():
    spec = spec_of(**TRIGGERED)
    done = StageState(StagePhase.SUCCEEDED)
    observed = after_round_one(spec, r2_sample=done, r2_rollout=done)
    assert "r2-hints" in [str(stage.id) for stage in plan(spec, observed, failures=0).start]


def test_plan_with_a_trigger_is_complete_when_patience_is_used_up():
    spec = spec_of(**(TRIGGERED | {"rounds": {"maxRounds": 2, "patience": 1, "trigger": {"minFailures": 50}}}))
    observed = after_round_one(spec)
    observed[StageId(1, Kind.PROMOTE)] = succeeded(promote_result(promoted=False))
    assert plan(spec, observed).phase is PlanPhase.COMPLETE


def test_waiting_message_stays_the_same_when_failures_are_added():
    spec = spec_of(**TRIGGERED)
    observed = after_round_one(spec)
    messages = {plan(spec, observed, failures=number).message for number in range(50)}
    assert messages == {"Round 2 of 2 waits for 50 failures of users."}


@pytest.mark.parametrize(
    ("teacher", "learned_from", "expected"),
    [
        ({"rolloutsPerTask": 3, "temperature": 0.7}, True, [0.2, 0.7, 0.7]),
        ({"rolloutsPerTask": 2}, True, [0.2, 0.2]),
        ({"temperature": 0.7}, True, [0.2]),
        ({"rolloutsPerTask": 3, "temperature": 0.7}, False, [0.2]),
    ],
)
def test_own_temperatures_follow_the_teacher_when_a_student_learns(
    teacher: dict[str, Any], learned_from: bool, expected: list[float]
):
    spec = spec_of(rollout={"temperature": 0.2}, teacherRollout=teacher)
    assert own_temperatures(spec, learned_from=learned_from) == expected


def rollout_player(spec: Spec, observed: dict[StageId, StageState], rejected: set[int]) -> Model | None:
    """Who plays the rollout of the second round."""
    sampled = {StageId(2, Kind.SAMPLE): StageState(StagePhase.SUCCEEDED)}
    current = plan(spec, sampled | observed, rejected=rejected)
    return next(stage.player for stage in current.start if stage.id == StageId(2, Kind.ROLLOUT))


@pytest.mark.parametrize(("rejected", "player"), [(set[int](), candidate_of(1)), ({1}, BASE), ({2}, candidate_of(1))])
def test_no_round_starts_with_a_student_that_live_traffic_rejected(rejected: set[int], player: Model):
    spec = spec_of(rounds={"maxRounds": 2})
    assert rollout_player(spec, after_round_one(spec), rejected) == player


@pytest.mark.parametrize(
    ("start", "player"), [("r1-train-distilled", candidate_of(1)), ("base", BASE), ("r7-train-other", BASE)]
)
def test_round_that_began_keeps_its_start_when_traffic_rejects_it(start: str, player: Model):
    spec = spec_of(rounds={"maxRounds": 2})
    observed = after_round_one(spec, r2_sample=succeeded({"start": start}))
    assert rollout_player(spec, observed, {1}) == player


def test_rejected_student_is_still_the_one_promoted_last():
    spec = spec_of(rounds={"maxRounds": 2})
    assert plan(spec, after_round_one(spec), rejected={1}).serving == candidate_of(1)


CONFIRMED: dict[str, Any] = {"environment": {"tasks": {"train": 2, "evaluate": 10, "confirm": 10}}}


@pytest.mark.parametrize(("passed", "players"), [(True, [BASE, candidate_of(1)]), (False, [None, None])])
def test_nothing_is_confirmed_when_the_candidate_fails_the_first_look(passed: bool, players: list[Model | None]):
    spec, observed = spec_of(**CONFIRMED), dict[StageId, StageState]()
    while not any("confirm" in stage.id.variant for stage in plan(spec, observed).start):
        for stage in plan(spec, observed).start:
            result = {"passed": passed} if stage.id.kind is Kind.JUDGE else result_of(stage.id, [])
            observed[stage.id] = succeeded(result)
    assert [stage.player for stage in plan(spec, observed).start] == players


def test_confirming_stages_play_again_when_held_out_tasks_are_added():
    observed = {StageId(1, Kind.JUDGE): succeeded({"passed": True, "heldOutTasks": 10})}
    grown = spec_of(environment={"tasks": {"train": 2, "evaluate": 20, "confirm": 10}})
    assert find_outgrown(grown, observed) == {StageId(1, Kind.JUDGE)}
