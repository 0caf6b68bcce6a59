"""Stages judge and promote: which tasks decide, how often the gate has looked, and which numbers are reported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from distillery.core.planner import Kind, Stage, StageId
from distillery.core.planner.results import Promotion
from distillery.database import Database
from distillery.stages import judge, promote
from tests.integration.stages.hand_run import FakeMaker, HandRun

N = 20


def spec_of(*, confirm: int = 0) -> dict[str, Any]:
    tasks = {"train": 2, "evaluate": N, "evaluateSplit": "test", "confirm": confirm}
    return {
        "environment": {"tasks": tasks},
        "evaluation": {"arms": ["baseline", "distilled"]},
        "rounds": {"maxRounds": 9},
    }


def results(solved: int, *, first: int = 0) -> dict[str, bool]:
    """Results on held-out tasks, of which so many are solved."""
    return {f"test/{first + number}": number < solved for number in range(N)}


def trained(student: str | None) -> dict[str, Any]:
    """The result of a training."""
    learned_from = {"arm": "teacher", "episodes": 2, "dropped": {"failed": 2}}
    metrics = {"tokens": 10, "targets": 5, "firstLoss": 2.0, "lastLoss": 1.0}
    return {"student": student, "learnedFrom": learned_from, **({"metrics": metrics} if student else {})}


async def judged(run: HandRun, round: int, solved: int) -> None:
    """Play a round up to its verdict: the baseline solves 2 held-out tasks, the candidate so many."""
    await run.record(Stage(StageId(round, Kind.TRAIN, "distilled")), trained(f"d{round}"))
    await run.play(round, "baseline", results(2))
    await run.play(round, "distilled", results(solved))


async def promoted(run: HandRun, round: int) -> Mapping[str, Any]:
    return await run.carry_out(promote.main, Stage(StageId(round, Kind.PROMOTE), start="base"))


async def test_each_round_is_another_look_at_the_held_out_tasks(database: Database, tmp_path: Path):
    run = await HandRun.create(database, tmp_path, **spec_of())
    looks = []
    for round in (1, 2, 3):
        await judged(run, round, 9)  # 7 tasks won, none lost: p = 0.016
        result = await promoted(run, round)
        looks.append((result["looks"], result["gate"]["verdict"]))
    assert looks == [(1, "Successful"), (2, "Successful"), (3, "Inconclusive")]


async def test_round_without_a_student_is_no_look(database: Database, tmp_path: Path):
    run = await HandRun.create(database, tmp_path, **spec_of())
    await run.record(Stage(StageId(1, Kind.TRAIN, "distilled")), trained(None))
    await run.play(1, "baseline", results(2))
    assert (await promoted(run, 1))["looks"] == 0
    await judged(run, 2, 9)
    assert (await promoted(run, 2))["looks"] == 1


@pytest.fixture
async def confirming(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HandRun:
    monkeypatch.setattr(judge, "open_environment", lambda spec, folder: FakeMaker(folder))
    return await HandRun.create(database, tmp_path, **spec_of(confirm=N))


async def look(run: HandRun, round: int) -> tuple[Mapping[str, Any], list[str]]:
    """Take the first look at a candidate; return its result, and the fresh tasks."""
    stage = Stage(StageId(round, Kind.JUDGE))
    result = await run.carry_out(judge.main, stage)
    return result, [one.id for one in run.context(stage).prepared.tasks("confirm")]


async def confirm(run: HandRun, round: int, fresh: list[str], *, solved: int) -> Mapping[str, Any]:
    """Play the fresh tasks, of which the baseline solves none and the candidate so many, and end the round."""
    await run.play(round, "confirm-baseline", dict.fromkeys(fresh, False))
    await run.play(round, "confirm-candidate", {name: number < solved for number, name in enumerate(fresh)})
    return await promoted(run, round)


async def test_candidate_is_judged_by_tasks_that_no_gate_has_seen(confirming: HandRun):
    await judged(confirming, 1, 20)
    first, fresh = await look(confirming, 1)
    assert (first["passed"], len(fresh)) == (True, N)
    assert not set(fresh) & results(0).keys()
    result = await confirm(confirming, 1, fresh, solved=1)
    assert (result["promoted"], result["gate"]["verdict"]) == (False, "Inconclusive")
    assert result["confirm"]["screened"]["verdict"] == "Successful"


async def test_numbers_of_the_fresh_tasks_are_reported(confirming: HandRun):
    await judged(confirming, 1, 20)
    _, fresh = await look(confirming, 1)
    result = await confirm(confirming, 1, fresh, solved=12)
    assert (result["promoted"], result["metric"], result["arms"]["distilled"]["success"]) == (True, 0.6, 1.0)
    assert Promotion.read(result).arms["distilled"].success == 0.6
    page = (confirming.store.open(f"r1-promote-{N}")[0] / "report.html").read_text()
    assert "The student solved 12 of 20 held-out tasks that no gate had seen" in page


async def test_each_candidate_uses_up_fresh_tasks(confirming: HandRun):
    seen = set[str]()
    for round in (1, 2):
        await judged(confirming, round, 20)
        _, fresh = await look(confirming, round)
        assert not seen & set(fresh)
        seen |= set(fresh)
        result = await confirm(confirming, round, fresh, solved=0)
        assert result["looks"] == round


async def test_candidate_that_fails_the_first_look_uses_up_nothing(confirming: HandRun):
    await judged(confirming, 1, 3)
    first, fresh = await look(confirming, 1)
    assert (first["passed"], fresh) == (False, [])
    result = await promoted(confirming, 1)
    assert (result["promoted"], result["looks"], "confirm" in result) == (False, 0, False)
    assert result["gate"] == first["gate"]


async def test_verdict_says_so_when_fresh_tasks_are_used_up(confirming: HandRun, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeMaker, "limit", N + 3)
    await judged(confirming, 1, 20)
    first, fresh = await look(confirming, 1)
    assert (first["passed"], fresh) == (False, [])
    result = await promoted(confirming, 1)
    assert result["gate"]["verdict"] == "Inconclusive"
    assert f"spec.environment.tasks.confirm asks for {N} held-out tasks" in result["gate"]["reason"]
    assert "3 are left" in result["gate"]["reason"]


async def test_fresh_task_that_was_learned_from_is_left_out(confirming: HandRun):
    await judged(confirming, 1, 20)
    _, fresh = await look(confirming, 1)
    # the training task opens as one of the fresh ones does
    await confirming.play(1, "own", {fresh[0]: True})
    result = await confirm(confirming, 1, fresh, solved=12)
    assert (result["confirm"]["leftOut"], result["confirm"]["arms"]["distilled"]["n"]) == (1, N - 1)
