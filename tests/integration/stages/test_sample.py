"""Stage sample: the tasks of later rounds, from a real database and an environment that can make more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from distillery.core.planner import Kind, Stage, StageId
from distillery.database import Database
from distillery.environments.base import Task
from distillery.stages import sample
from distillery.stages.runtime.failures import StageFailure
from tests.fakes.agents import task
from tests.integration.stages.hand_run import FakeMaker, HandRun

TASKS = 4
SPEC: dict[str, Any] = {
    "environment": {"tasks": {"train": TASKS, "evaluate": 2, "evaluateSplit": "test"}},
    "rounds": {"maxRounds": 9},
}


@pytest.fixture
async def run(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HandRun:
    monkeypatch.setattr(sample, "open_environment", lambda spec, folder: FakeMaker(folder))
    return await HandRun.create(database, tmp_path, **SPEC)


def stage_of(round: int) -> Stage:
    return Stage(StageId(round, Kind.SAMPLE), start="r1-train-distilled")


async def draw(run: HandRun, round: int) -> tuple[list[str], Mapping[str, Any]]:
    """Carry the stage out; return the ids of the tasks, and the result."""
    result = await run.carry_out(sample.main, stage_of(round))
    return [one.id for one in run.context(stage_of(round)).prepared.tasks("train")], result


ROUND_ONE = {"train/0": True, "train/1": False, "train/2": True, "train/3": False}


async def test_round_has_new_tasks_and_a_share_of_failed_ones(run: HandRun):
    await run.play(1, "own", ROUND_ONE)
    chosen, result = await draw(run, 2)
    assert chosen[0] in ("train/1", "train/3")
    assert len(chosen) == TASKS
    assert not set(chosen[1:]) & ROUND_ONE.keys()
    assert (result["tasks"]["train"]["n"], result["tasks"]["train"]["new"]) == (4, 3)
    assert result["start"] == "r1-train-distilled"


async def test_third_round_continues_from_the_material_of_the_second(run: HandRun):
    await run.play(1, "own", ROUND_ONE)
    second, _ = await draw(run, 2)
    await run.play(2, "own", dict.fromkeys(second, True))
    third, result = await draw(run, 3)
    # one failed task is left of the first round: the other was solved in the second
    assert len(set(third) & ROUND_ONE.keys()) == 1
    assert not set(third) & set(second[1:])
    assert result["tasks"]["train"]["new"] == 3


async def test_same_history_gives_the_same_tasks(run: HandRun):
    await run.play(1, "own", ROUND_ONE)
    first, _ = await draw(run, 2)
    again, _ = await sample.main(run.context(stage_of(2)))
    assert again["tasks"]["train"]["sha256"] == run.store.manifest("r2-sample")["tasks"]["train"]["sha256"]
    assert first


async def test_played_tasks_fill_the_round_when_no_new_ones_can_be_made(run: HandRun, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeMaker, "limit", TASKS + 1)
    await run.play(1, "own", ROUND_ONE)
    chosen, result = await draw(run, 2)
    assert set(chosen[:3]) == {"train/1", "train/3", "train/4"}
    assert result["tasks"]["train"]["new"] == 1


async def test_task_that_confirmed_a_candidate_is_not_learned_from(run: HandRun):
    await run.play(1, "own", ROUND_ONE)
    await run.play(1, "confirm-baseline", {"train/4": True})
    chosen, _ = await draw(run, 2)
    assert "train/4" not in chosen


async def test_round_that_an_earlier_release_began_keeps_its_tasks(run: HandRun):
    await run.play(1, "own", ROUND_ONE)
    await run.play(2, "own", {"train/1": True, "train/2": True})
    chosen, _ = await draw(run, 2)
    assert chosen == ["train/1", "train/2"]


async def test_sampler_that_chooses_what_it_was_not_given_fails_the_stage(
    run: HandRun, monkeypatch: pytest.MonkeyPatch
):
    class Liar:
        name = "liar"

        def __init__(self, spec: object) -> None: ...

        def count_new(self, number: int, played: object) -> int:
            return 0

        def choose(self, number: int, candidates: object) -> list[Task]:
            return [task(77)]

    monkeypatch.setattr(sample.plugins, "load", lambda kind, name: Liar)
    with pytest.raises(StageFailure, match=r"spec\.rounds\.sampler: liar chose 1 tasks, 1 of them different and 0"):
        await sample.main(run.context(stage_of(2)))
