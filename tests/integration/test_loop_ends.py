"""Runs that end early: by patience, or before anything is played."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from distillery.api import parse
from tests.integration.loop import MICRO, Home, document


def test_patience_ends_a_run_on_the_embedded_database(folder: Path):
    home = Home(folder, {})
    run = document(
        "patient",
        evaluation={"arms": ["base", "distilled"], "gate": {"minImprovement": 0.99}},
        rounds={"max": 3, "patience": 1},
    )
    run["spec"]["environment"]["tasks"] |= {"train": 12, "evaluate": 4}
    run["spec"]["training"]["epochs"] = 1
    done = home.call("run", home.write(run))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Inconclusive" in done.stdout
    status = home.call("status", "patient").stdout
    assert "No promotion in 1 round in a row." in status
    assert "r2-rollout" not in status
    assert parse(run).spec.rounds.max == 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"models": {"student": {"model": "/nowhere/at/all"}}}, r"model /nowhere/at/all: there is no such folder"),
        ({"agent": {"name": "reactt"}}, r"no agent 'reactt' is installed; known: plain, react, stateact"),
        (
            {"environment": {"options": {"games": "alfworld"}}},
            r"ALFWorld's own games are wanted, and \$ALFWORLD_DATA isn't set",
        ),
        (
            {"models": {"student": {"model": str(MICRO)}, "extractor": {"endpoint": {"baseURL": "http://127.0.0.1:1/v1",
             "model": "m", "apiKeySecretRef": {"name": "openai", "key": "token"}}}}},
            r"secret openai, key token: no such file",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_told_before_anything_is_played(folder: Path, change: dict[str, Any], told: str):
    home = Home(folder, {})
    path = home.write(document(f"wrong-{abs(hash(told)) % 10**8}", **change))
    refused = home.call("run", path)
    assert refused.returncode == 78
    assert re.search(told, refused.stderr)
