"""The progress of a stage, as its pod serves it and the operator reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distillery.core.contracts.progress import StageProgress

DOCUMENT = '{"stage": "r1-rollout", "done": 812, "total": 1200, "unit": "episodes", "etaSeconds": 540}'
PROGRESS = StageProgress("r1-rollout", 812, 1200, "episodes", 540)


def test_progress_keeps_its_form_between_releases():
    assert json.dumps(PROGRESS.to_json()) == DOCUMENT
    assert StageProgress.from_json(json.loads(DOCUMENT)) == PROGRESS


@pytest.mark.parametrize("progress", [PROGRESS, StageProgress("prepare", 0, 0, "")])
def test_progress_comes_back_as_it_was(progress: StageProgress):
    assert StageProgress.from_json(json.loads(json.dumps(progress.to_json()))) == progress


@pytest.mark.parametrize("eta", ["soon", 1.5, None, [1]])
def test_progress_has_no_eta_when_the_number_is_none(eta: Any):
    assert StageProgress.from_json({**PROGRESS.to_json(), "etaSeconds": eta}).eta_seconds is None


@pytest.mark.parametrize("document", [{}, {"stage": "a", "done": "x", "total": 1, "unit": ""}])
def test_progress_is_refused_when_a_field_is_missing_or_wrong(document: dict[str, Any]):
    with pytest.raises((KeyError, ValueError)):
        StageProgress.from_json(document)
