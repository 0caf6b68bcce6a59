"""The captured records have one form for the gateway and the recorder, which trusts no file."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from distillery.core.contracts.capture import CapturedOutcome, CapturedRequest, InvalidRecord, parse

TIME = datetime(2026, 12, 1, 7, 30, 0, 250, tzinfo=UTC)
REQUEST = (
    CapturedRequest("s-1", "bot", "base", ({"role": "user", "content": "Go to the d\u00e9sk."},), "go", TIME),
    '{"session": "s-1", "alias": "bot", "model": "base", "messages": [{"role": "user", "content": "Go to the '
    'd\\u00e9sk."}], "answer": "go", "time": "2026-12-01T07:30:00.000250+00:00"}',
)
OUTCOME = (
    CapturedOutcome("s-1", "bot", False, 0.5, "tidy up", TIME),
    '{"session": "s-1", "alias": "bot", "success": false, "reward": 0.5, "task": "tidy up", "time": '
    '"2026-12-01T07:30:00.000250+00:00"}',
)
UNKNOWN_REWARD = (
    CapturedOutcome("s-1", "bot", True, None, "", TIME),
    '{"session": "s-1", "alias": "bot", "success": true, "reward": null, "task": "", "time": '
    '"2026-12-01T07:30:00.000250+00:00"}',
)


@pytest.mark.parametrize(("record", "text"), [REQUEST, OUTCOME, UNKNOWN_REWARD])
def test_record_has_the_form_of_the_first_release(record: CapturedRequest | CapturedOutcome, text: str):
    assert record.dump() == text
    assert parse(text) == record


def test_outcome_needs_neither_reward_nor_task():
    time = TIME.isoformat()
    assert parse(json.dumps({"session": "s", "alias": "a", "success": True, "time": time})) == CapturedOutcome(
        "s", "a", True, None, "", TIME
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"session": ""}, {"session": "x" * 200}, {"session": 7}, {"time": "yesterday"}, {"time": "2026-11-26T00:00:00"},
        {"time": 7}, {"success": "yes"}, {"success": True, "reward": 2}, {"success": True, "task": None},
        {"answer": None}, {"messages": [1]}, {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": None}]},
    ],
)  # fmt: skip
def test_record_is_rejected_when_a_field_is_wrong(wrong: dict[str, Any]):
    with pytest.raises(InvalidRecord):
        parse(json.dumps({**json.loads(REQUEST[1]), **wrong}))


@pytest.mark.parametrize("text", ["{", "[]", '"session"', "{}"])
def test_record_is_rejected_when_it_is_not_an_object(text: str):
    with pytest.raises(InvalidRecord):
        parse(text)
