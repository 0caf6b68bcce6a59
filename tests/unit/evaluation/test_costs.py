"""What each arm cost over the rounds, and when two arms cost the same."""

from __future__ import annotations

from typing import Any

import pytest

from distillery.core.api import Spec, parse
from distillery.core.planner import Promotion, StageId, StagePhase, StageResult, StageState
from distillery.core.planner.plan import stages_so_far
from distillery.core.planner.plays import Comparison
from distillery.evaluation.arms import ArmResults, compare
from distillery.evaluation.costs import Cost, Costs, Ledger, are_equal
from tests.unit.documents import document

ARMS = ["baseline", "rag", "placebo", "sft", "distilled", "placebo-distilled", "distilled+rag"]
SPEC: Spec = parse(document(evaluation={"arms": ARMS}, rounds={"maxRounds": 3})).spec

STUDENTS = {"sft": "5", "distilled": "d", "placebo-distilled": "b"}
PROMOTED = Promotion("Successful", "Because.", True, 0.5, {}, STUDENTS)
AFTER_ONE = {StageId.parse("r1-promote"): StageState(StagePhase.SUCCEEDED, result=StageResult(promotion=PROMOTED))}

OWN, TEACHER, PLACEBO, CONTROL = Cost(prompt_tokens=1), Cost(prompt_tokens=10), Cost(prompt_tokens=100), Cost(calls=1)
LEDGER = Ledger(
    played={
        (1, "own"): OWN, (1, "teacher"): TEACHER, (1, "placebo-teacher"): PLACEBO,
        (2, "own"): OWN, (2, "own-sft"): CONTROL, (2, "teacher"): TEACHER, (2, "placebo-teacher"): PLACEBO,
    },
    extracted={1: Cost(prompt_tokens=1_000), 2: Cost(prompt_tokens=1_000)},
    trained={
        StageId.parse(name): 10_000
        for name in ("r1-train-distilled", "r1-train-sft", "r1-train-placebo-distilled", "r2-train-distilled",
                     "r2-train-sft", "r2-train-placebo-distilled")
    },
)  # fmt: skip


def costs_of(arm: str, round: int) -> Cost:
    return Costs(SPEC, stages_so_far(SPEC, AFTER_ONE), LEDGER).of(arm, round)


@pytest.mark.parametrize(
    ("arm", "prompt", "trained"),
    [
        ("baseline", 0, 0),
        ("rag", 1_001, 0),
        ("placebo", 1_001, 0),
        ("sft", 1, 10_000),
        ("distilled", 1_011, 10_000),
        ("placebo-distilled", 1_101, 10_000),
        ("distilled+rag", 1_011, 10_000),
    ],
)
def test_arm_costs_what_it_needs_in_the_first_round(arm: str, prompt: int, trained: int):
    assert costs_of(arm, 1) == Cost(prompt_tokens=prompt, trained_tokens=trained)


def test_later_student_costs_all_rounds_and_the_students_that_played():
    # both students of the loop, for the first one played and taught in the second round
    assert costs_of("distilled", 2) == Cost(prompt_tokens=2 * 1_011, trained_tokens=20_000)


def test_control_costs_its_own_play_and_not_the_loops():
    assert costs_of("sft", 2) == Cost(prompt_tokens=1, calls=1, trained_tokens=20_000)


def test_baseline_costs_what_the_student_did_that_it_is():
    assert costs_of("baseline", 2) == costs_of("distilled", 1)
    assert costs_of("base", 2) == Cost()


def test_sum_counts_a_trained_token_three_times_and_a_cached_one_never():
    cost = Cost(prompt_tokens=100, cached_tokens=60, completion_tokens=5, trained_tokens=10)
    assert cost.equivalents == 40 + 5 + 30
    assert cost.to_json()["sum"] == 75


@pytest.mark.parametrize(("tokens", "equal"), [(95, True), (94, False), (100, True), (105, True), (106, False)])
def test_costs_are_equal_within_five_percent(tokens: int, equal: bool):
    assert are_equal(Cost(prompt_tokens=100), Cost(prompt_tokens=tokens)) is equal


def arm(*solved: bool) -> ArmResults:
    rows: list[dict[str, Any]] = [
        {"task_id": str(n), "category": "put", "success": success, "score": float(success)}
        for n, success in enumerate(solved)
    ]
    return ArmResults(rows)


@pytest.mark.parametrize(("tokens", "unequal"), [(100, False), (200, True)])
def test_claim_of_equal_cost_has_no_p_value_when_costs_differ(tokens: int, unequal: bool):
    arms = {"baseline": arm(False, False), "plan": arm(True, True), "again": arm(True, False)}
    costs = {"plan": Cost(prompt_tokens=100), "again": Cost(prompt_tokens=tokens)}
    found = compare(arms, "success", comparisons=[Comparison("plan", "again", equal_cost=True)], costs=costs)
    (claim,) = [one for one in found if (one["a"], one["b"]) == ("plan", "again")]
    assert (claim["unequalCosts"], claim["p"] is None, claim["pHolm"] is None) == (unequal, unequal, unequal)
    assert claim["difference"] == 0.5
