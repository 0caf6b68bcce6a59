"""The end of a stage in a termination message: always within its size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distillery.core.contracts import stage_result
from distillery.core.planner import ArmScore, Promotion


def test_result_comes_back_as_what_the_planner_needs(tmp_path: Path):
    path = tmp_path / "message"
    arms = {
        f"arm-{i:02d}": {"n": 134, "success": 1 / 3, "ci": [0.1234567890123, 0.98765432109], "steps": 1}
        for i in range(13)
    }
    result = {
        "gate": {"verdict": "Failed", "reason": "x" * 300},
        "promoted": False,
        "metric": 0.3,
        "arms": arms,
        "files": {},
    }
    stage_result.write_success(path, result)
    assert path.stat().st_size <= stage_result.MAX_BYTES
    state = stage_result.read(path.read_text(), attempt=2)
    assert state
    assert (state.phase, state.attempts) == ("succeeded", 2)
    assert set(state.result.document) == {"gate", "promoted", "metric", "arms"}
    scores = {name: ArmScore(134, 1 / 3, (0.1234567890123, 0.98765432109)) for name in arms}
    assert state.result.promotion == Promotion("Failed", "x" * 300, False, 0.3, scores)


@pytest.mark.parametrize("text", ["x" * 9000, "é" * 5000, "\0" * 5000, '"\\\n' * 3000, "\ud800" * 3000])
def test_result_fits_when_the_source_of_an_environment_is_long(tmp_path: Path, text: str):
    path = tmp_path / "message"
    result = {
        "run": f"11111111-2222-3333-4444-555555555555-{'a' * 64}",
        "environment": {"name": "openenv", "source": text, "split": "train"},
        "gate": {"verdict": "Failed", "reason": text},
        "promoted": False,
        "student": "b" * 64,
        "metric": 1 / 3,
        "arms": {
            f"arm-{i:02d}": {"n": 134, "success": 1 / 3, "ci": [0.1234567890123, 0.98765432109]} for i in range(13)
        },
    }
    stage_result.write_success(path, result)
    assert path.stat().st_size <= stage_result.MAX_BYTES
    state = stage_result.read(path.read_text(), attempt=1)
    assert state
    assert state.result.promotion
    assert (state.result.document["run"], state.result.student) == (result["run"], result["student"])
    assert state.result.document["environment"]["split"] == "train"
    if "\ud800" not in text:
        assert text.startswith(state.result.promotion.reason)


@pytest.mark.parametrize("message", ["boom", "é" * 5000, "\0" * 5000, '"\\\n' * 3000, "\ud800"])
def test_failure_fits_when_its_message_is_long(tmp_path: Path, message: str):
    path = tmp_path / "message"
    stage_result.write_failure(path, message, permanent=True)
    assert path.stat().st_size <= stage_result.MAX_BYTES
    state = stage_result.read(path.read_text(), attempt=1)
    assert state
    assert (state.phase, state.permanent) == ("failed", True)


@pytest.mark.parametrize(
    "result",
    [
        [],
        "done",
        {"heldOutTasks": "many"},
        {"gate": {}},
        {"gate": {"verdict": "Failed", "reason": "x"}, "promoted": False, "metric": "high"},
        {"gate": {"verdict": "Failed", "reason": "x"}, "promoted": False, "metric": 0.3, "lost": "many"},
        {"gate": {"verdict": "Failed", "reason": "x"}, "promoted": False, "metric": 0.3, "lost": {"a": 1}},
        {"gate": {"verdict": "Failed", "reason": "x"}, "promoted": False, "metric": 0.3, "start": "x" * 64},
        {"gate": {"verdict": "Failed", "reason": "x"}, "promoted": False, "metric": 0.3, "candidate": "x" * 64},
        {"start": "x" * 64},
        {"gate": {"verdict": "Failed", "reason": "x"}, "promoted": False, "metric": 0.3, "arms": {"a": [9, 0.5]}},
    ],
)
def test_read_returns_none_when_a_worker_reports_something_else(result: Any):
    assert stage_result.read(json.dumps({"result": result}), attempt=1) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "killed", '{"message": "x"}'])
def test_read_returns_none_when_the_text_is_no_result(text: str):
    assert stage_result.read(text, attempt=1) is None
