"""The student to serve, and the history of what was served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from distillery.core.api import Spec, parse
from distillery.core.planner import Lineage, Model, Plan, PlanPhase, Promotion, Verdict
from distillery.core.planner.graph import BASE, student_model
from distillery_operator.crd.status_schema import MAX_HISTORY
from distillery_operator.decide.canary.target import (
    NoSuchStudent,
    ServingTarget,
    find_stable,
    select_target,
)
from distillery_operator.decide.status import append_history
from tests.unit.documents import document


def candidate_of(round: int) -> Model:
    return student_model(round, "distilled")


ROUNDS = [
    {"round": 1, "verdict": "Successful", "promoted": True, "student": "1abcdef012345678", "reason": "First."},
    {"round": 2, "verdict": "Successful", "promoted": True, "student": "2abcdef012345678", "reason": "Second."},
    {"round": 3, "verdict": "Inconclusive", "promoted": False, "reason": "Trained nothing."},
]
SECOND = ServingTarget(candidate_of(2), "2abcdef012345678", 2, "Second.")
NOW = "2026-11-25T12:00:00Z"


def spec_of(pinned: int | None) -> Spec:
    return parse(document(rounds={"maxRounds": 9}, serving={} if pinned is None else {"pinnedRound": pinned})).spec


def select(pinned: int | None = None, promoted: Model = BASE, **status: Any) -> ServingTarget | None:
    verdicts = (Verdict(2, "2abcdef012345678", Promotion("Successful", "Second.", True, 0.5)),)
    current = Plan(PlanPhase.RUNNING, 4, () if promoted == BASE else verdicts, Lineage(promoted), "")
    return select_target(spec_of(pinned), current, {"rounds": ROUNDS, **status})


def test_student_promoted_last_is_selected():
    assert select(promoted=candidate_of(2)) == SECOND


@pytest.mark.parametrize("number", [1, 2])
def test_pinned_round_is_selected_whatever_was_promoted(number: int):
    target = select(number, candidate_of(3 - number))
    assert target
    assert (target.round, target.student) == (number, f"{number}abcdef01234")
    assert target.reason == f"spec.serving.pinnedRound is {number}."


def test_base_model_is_selected_when_round_0_is_pinned():
    assert select(0, candidate_of(2)) == ServingTarget(BASE, "", 0, "spec.serving.pinnedRound is 0, the base model.")


def test_base_model_takes_the_place_of_a_student_once_something_is_served():
    assert select() is None
    assert select(serving={}) == ServingTarget(BASE, "", 0, "No student was promoted.")


@pytest.mark.parametrize(("number", "why"), [(3, "trained no student"), (4, "has not ended")])
def test_pinned_round_is_refused_when_it_has_no_student(number: int, why: str):
    with pytest.raises(NoSuchStudent, match=f"pinnedRound is {number}, and that round {why}: what was served"):
        select(number)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, None),
        ({"serving": {"round": 0}}, ServingTarget(BASE, "", 0, "")),
        ({"serving": {"round": 2}, "rounds": ROUNDS}, replace(SECOND, reason="")),
        ({"serving": {"round": 2}}, ServingTarget(candidate_of(2), "", 2, "")),
    ],
)
def test_stable_student_is_that_of_the_served_round(status: dict[str, Any], expected: ServingTarget | None):
    assert find_stable(status) == expected


@pytest.mark.parametrize(("digest", "name"), [("2abcdef012345678", "student 2abcdef01234"), ("", "the base model")])
def test_name_in_a_sentence_is_that_of_the_student(digest: str, name: str):
    assert replace(SECOND, digest=digest).display_name == name


def entry(number: int) -> dict[str, Any]:
    return {"student": f"{number}abcdef01234", "round": number, "reason": "Why.", "time": "before"}


def test_history_begins_with_what_is_served_now():
    assert append_history([entry(1)], SECOND, NOW) == [
        {"student": "2abcdef01234", "round": 2, "reason": "Second.", "time": NOW}, entry(1),
    ]  # fmt: skip


def test_history_stays_when_the_same_student_is_served():
    assert append_history([entry(2), entry(1)], SECOND, NOW) == [entry(2), entry(1)]


@pytest.mark.parametrize("other", [{"student": "1abcdef01234"}, {"round": 1}])
def test_history_grows_when_the_student_or_the_round_differs(other: dict[str, Any]):
    assert len(append_history([entry(2) | other], SECOND, NOW)) == 2


def test_history_has_the_rollback_of_a_canary():
    first, *before = append_history([entry(2)], SECOND, NOW, rolled_back="It was worse.")
    assert (first["student"], first["reason"], before) == ("2abcdef01234", "It was worse.", [entry(2)])


def test_history_forgets_the_oldest_when_it_is_full():
    history = append_history([entry(1)] * MAX_HISTORY, SECOND, NOW)
    assert (len(history), history[0]["round"]) == (MAX_HISTORY, 2)
