"""The records of rounds that ended: the status keeps all of them."""

from __future__ import annotations

from distillery.core.planner import ArmScore, Promotion
from distillery_operator.model.rounds import RoundRecord, read_rounds


def test_rounds_are_read_as_they_were_written():
    scores = {"baseline": ArmScore(9, 0.4, (0.2, 0.6))}
    promotion = Promotion("Successful", "Because.", promoted=True, metric=0.8, arms=scores)
    records = {number: RoundRecord(number, f"{number}abc", promotion, "2026-12-01T00:00:00Z") for number in (1, 2)}
    assert read_rounds({"rounds": [record.to_status() for record in records.values()]}) == records


def test_round_has_no_student_when_none_was_trained():
    record = {"round": 1, "verdict": "Inconclusive", "promoted": False}
    assert read_rounds({"rounds": [record]})[1].student is None


def test_there_are_no_rounds_before_one_ended():
    assert read_rounds({}) == {}
