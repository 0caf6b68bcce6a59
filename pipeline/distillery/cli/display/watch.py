"""The watch over a run that another process runs, until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from distillery.cli.display.display import Display
from distillery.cli.display.gpus import read_gpus
from distillery.cli.display.stage_table import Tokens
from distillery.core.api import DistillationRun, parse
from distillery.core.planner import Plan, PlanPhase, plan
from distillery.core.planner.graph import Stage
from distillery.core.planner.plan import stages_so_far
from distillery.database import Database, Row
from distillery.database.episodes import EpisodeStore
from distillery.database.runs import RunStore
from distillery.database.sessions import SessionStore
from distillery.database.stages import StageStore, states_of
from distillery.local.executor import RunProgress

_SECONDS = 2.0


async def watch(database: Database, row: Row, display: Display, *, seconds: float = _SECONDS) -> Plan:
    """Show a run's progress until it ends; return the plan that ended it.

    Args:
        database: with the run.
        row: its row.
        display: shows it.
        seconds: the poll interval.
    """
    run, run_id = parse(row["document"]), row["id"]
    while True:
        rows = await StageStore(database, run_id).read()
        states = states_of(rows)
        current = plan(run.spec, states, failures=await SessionStore(database, run_id).count_pending_failures())
        tokens = await tokens_of(database, run_id, stages_so_far(run.spec, states))
        driven = await RunStore(database).is_driven(run_id)
        ended = current.phase is not PlanPhase.RUNNING and not (driven and current.running)
        shown = current if ended else replace(current, message=describe(run, current, driven=driven)[1])
        display(RunProgress(run, shown, rows, driven=driven), tokens=tokens, gpus=[] if ended else await read_gpus())
        if ended:
            return current
        await asyncio.sleep(seconds)


def describe(run: DistillationRun, current: Plan, *, driven: bool) -> tuple[str, str]:
    """Return the phase of a run and a sentence for a person, with how to resume it if no process drives it."""
    if driven or current.phase not in (PlanPhase.RUNNING, PlanPhase.FAILED):
        return current.phase, current.message
    if current.phase is PlanPhase.FAILED:
        return current.phase, f"{current.message.rstrip('.')}. To try again: distillery retry {run.key}"
    return "Interrupted", f"{current.message} It is not running; to resume: distillery retry {run.key}"


async def tokens_of(database: Database, run_id: int, stages: Iterable[Stage]) -> Mapping[str, Tokens]:
    """Return the token counts of the finished episodes of each of the stages, by the stage's name."""
    rows = await EpisodeStore(database, run_id).count_tokens()
    tokens: dict[str, Tokens] = {}
    for stage in stages:
        played = [row for row in rows if row["round"] == stage.id.round and row["arm"] in stage.arms]
        if played:
            cached = [row["cached"] for row in played]
            tokens[str(stage.id)] = Tokens(
                sum(row["prompt"] for row in played),
                sum(row["completion"] for row in played),
                None if None in cached else sum(cached),
            )
    return tokens
