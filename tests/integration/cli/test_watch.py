"""Watching a run that another process drives, on a real Postgres."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from distillery.cli.display.display import Display
from distillery.cli.display.stage_table import Tokens
from distillery.cli.display.watch import tokens_of, watch
from distillery.core.api import parse
from distillery.core.planner import StageId, StagePhase, StageState
from distillery.core.planner.plan import stages_so_far
from distillery.database import Database
from distillery.database.episode_queue import EpisodeQueue, EpisodeRequest, Worker
from distillery.database.runs import RunLock, RunStore
from distillery.database.stages import StageStore
from distillery.episodes import Turn
from tests.fakes.agents import episode, task
from tests.integration.episodes import PREFIX
from tests.integration.loop import wait_for
from tests.unit.documents import document

PREPARE, ROLLOUT = StageId.parse("prepare"), StageId.parse("r1-rollout")


async def play(database: Database, run_id: int, arm: str, *turns: Turn) -> None:
    queue = EpisodeQueue(database, run_id, round=1, arms=[arm], worker=Worker("w", 60))
    await queue.enqueue([EpisodeRequest(task(), arm)])
    (lease,) = await queue.lease(1)
    made = episode(turns, prefix=PREFIX, initial_observation="hello", of=lease.task, success=True, arm=arm)
    assert await queue.finish(lease, made)


async def run_row(database: Database, run_id: int) -> dict[str, Any]:
    return (await database.fetch("SELECT * FROM run WHERE id = %s", run_id))[0]


async def test_watch_shows_each_stage_and_ends_when_the_run_fails(database: Database, run_id: int, dsn: str):
    console = Console(file=io.StringIO(), width=200)

    def is_shown(text: str) -> bool:
        return text in console.file.getvalue()  # type: ignore[attr-defined]

    async def until(text: str) -> None:
        await asyncio.to_thread(wait_for, text, lambda: is_shown(text))

    async with RunLock(dsn, run_id):
        await StageStore(database, run_id).begin(PREPARE, 1)
        with Display(console) as display:
            watching = asyncio.create_task(watch(database, await run_row(database, run_id), display, seconds=0.01))
            await until("▶ prepare: running")
            await StageStore(database, run_id).end(PREPARE, StageState(StagePhase.SUCCEEDED))
            await until("✓ prepare: succeeded")
            await play(database, run_id, "own", Turn("go", "go", "You went.", True, 0, 900, 100, 450, 0.5))
            await StageStore(database, run_id).begin(ROLLOUT, 1)
            await StageStore(database, run_id).report_progress(ROLLOUT, done=1, total=4, unit="episodes")
            await until("▶ r1-rollout: running")
            assert not watching.done()
            await StageStore(database, run_id).end(
                ROLLOUT, StageState(StagePhase.FAILED, permanent=True, message="no such model")
            )
            end = await watching
    assert end.phase == "Failed"
    assert "no such model" in end.message
    assert is_shown("✗ r1-rollout: failed  attempt 1: no such model")


async def test_watch_says_how_to_resume_when_the_run_is_interrupted(database: Database, run_id: int, dsn: str):
    console = Console(file=io.StringIO(), width=200, height=40, force_terminal=True)
    with Display(console) as display:
        watching = asyncio.create_task(watch(database, await run_row(database, run_id), display, seconds=0.01))
        message = "It is not running; to resume: distillery retry default/test"
        await asyncio.to_thread(wait_for, message, lambda: message in console.file.getvalue())  # type: ignore[attr-defined]
        assert not watching.done()
        watching.cancel()
    assert not await RunStore(database).is_driven(run_id)
    async with RunLock(dsn, run_id):
        assert await RunStore(database).is_driven(run_id)
        assert not await RunStore(database).is_driven(run_id + 1)


async def test_tokens_are_counted_by_stage_with_unknown_cache_as_none(database: Database, run_id: int):
    turn = Turn("go", "go", "You went.", True, 0, 12, 3, 8, 0.5)
    await play(database, run_id, "own", turn, turn)
    await play(database, run_id, "baseline", turn)
    await play(database, run_id, "rag", replace(turn, cached_tokens=None))
    spec = parse(document(evaluation={"arms": ["baseline", "rag", "distilled"]})).spec
    assert await tokens_of(database, run_id, stages_so_far(spec, {})) == {
        "r1-rollout": Tokens(24, 6, 16),
        "r1-evaluate-baseline": Tokens(24, 6, None),
    }
