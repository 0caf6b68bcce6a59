"""Which student ``distillery serve`` starts."""

from __future__ import annotations

import pytest

from distillery.core.api import parse
from distillery.core.planner import Kind, Model, StageId, StagePhase, StageResult, StageState, plan
from distillery.core.planner.graph import BASE, student_model
from distillery.local.servers import NothingToServe, select_model
from tests.unit.core.planner.test_plan import promote_result, result_of
from tests.unit.documents import document


def candidate_of(round: int) -> Model:
    return student_model(round, "distilled")


RUN = parse(document(rounds={"maxRounds": 2}))


def ended(*promoted: bool) -> dict[StageId, StageState]:
    """The stages of rounds that ended with a promotion or without."""
    verdicts = [promote_result(promoted=yes) for yes in promoted]
    states: dict[StageId, StageState] = {}
    while (current := plan(RUN.spec, states)).start and current.round <= len(promoted):
        for stage in current.start:
            result = StageResult.read(result_of(stage.id, verdicts))
            states[stage.id] = StageState(StagePhase.SUCCEEDED, result=result)
    return states


def test_serve_takes_the_student_promoted_last_without_a_round():
    assert select_model(RUN, ended(True, False), None) == candidate_of(1)


def test_serve_takes_the_student_of_a_round_that_was_not_promoted():
    assert select_model(RUN, ended(False), 1) == candidate_of(1)
    assert select_model(RUN, ended(True, False), 2) == candidate_of(2)
    assert select_model(RUN, ended(True), 0) == BASE


def test_serve_names_the_rounds_when_nothing_was_promoted():
    with pytest.raises(NothingToServe, match=r"promoted no student yet\..* students of round 1: serve one by --round"):
        select_model(RUN, ended(False), None)


def test_serve_refuses_a_round_that_trained_no_student():
    states = ended(False)
    states[StageId(1, Kind.TRAIN, "distilled")] = StageState(StagePhase.SUCCEEDED, result=StageResult(student=None))
    with pytest.raises(NothingToServe, match=r"round 1 of run default/test has trained no student\.$"):
        select_model(RUN, states, 1)
