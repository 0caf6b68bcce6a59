"""``distillery status`` and ``distillery list``: the progress of the runs of this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from distillery.cli.display.display import Display, plain_console
from distillery.cli.display.overview import UNREADABLE, Overview, parse_stored_run, read_overview
from distillery.cli.display.stage_table import Snapshot, build_table, list_stages
from distillery.cli.display.watch import describe, watch
from distillery.cli.errors import EXIT_FAILED
from distillery.core.planner import PlanPhase
from distillery.database import Database, Row
from distillery.database.runs import RunStore
from distillery.formatting import format_age, format_percent
from distillery.local import workspace

_NO_RUNS = "no runs yet; start one with: distillery run FILE"
_NARROW = 100
_NAME_WIDTH = 32
"""A run's name of at most so many characters is not folded while another column can be."""


async def show_status(options: argparse.Namespace) -> int:
    """Print how far one run is, or all are."""
    console = plain_console()
    with workspace.database() as (dsn, _):
        async with Database(dsn) as database:
            if options.watch:
                return await _watch(database, await RunStore(database).find(options.run))
            if not options.run:
                overviews = await _all(database)
            else:
                overviews = [await read_overview(database, await RunStore(database).find(options.run))]
    if options.json:
        documents = [one.to_json() for one in overviews]
        print(json.dumps(documents[0] if options.run else documents, indent=1))
    elif options.run:
        _print_one(console, overviews[0])
    else:
        for one in overviews:
            console.print(f"{one.row['key']}  {one.phase}  {one.message}", highlight=False, markup=False)
        if not overviews:
            console.print(_NO_RUNS)
    return 0


async def show_list(options: argparse.Namespace) -> int:
    """Print a table of all runs."""
    with workspace.database() as (dsn, _):
        async with Database(dsn) as database:
            overviews = await _all(database)
    if options.json:
        print(json.dumps([one.to_json() for one in overviews], indent=1))
        return 0
    console = plain_console()
    console.print(build_run_table(overviews, now=datetime.now(UTC), width=console.width) if overviews else _NO_RUNS)
    return 0


async def _all(database: Database) -> list[Overview]:
    return [await read_overview(database, row) for row in await RunStore(database).read_all()]


def _print_one(console: Console, one: Overview) -> None:
    title, message = one.row["key"], f"{one.phase}. {one.message}"
    if one.progress is None:
        console.print(f"{title}  {message}", highlight=False, markup=False)
        return
    snapshot = Snapshot(title, message, list_stages(one.progress), one.pending)
    console.print(build_table(snapshot, width=console.width))
    logs = one.folder / "logs"
    if logs.is_dir():
        console.print(f"logs: distillery logs {title}, from {logs}", highlight=False, markup=False, soft_wrap=True)


async def _watch(database: Database, row: Row) -> int:
    run = parse_stored_run(row)
    console = Console()
    with Display(console) as display:
        end = await watch(database, row, display)
    phase, message = describe(run, end, driven=False)
    console.print(f"{row['key']}  {phase}. {message}", highlight=False, markup=False, soft_wrap=True)
    return EXIT_FAILED if end.phase is PlanPhase.FAILED else 0


def build_run_table(overviews: Sequence[Overview], *, now: datetime, width: int) -> Table:
    """Return a table of runs with each last verdict; without the settings if columns are few."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    names = ["RUN", "PHASE", "ROUND", "BASELINE", "CANDIDATE", "VERDICT", "AGE"]
    names += ["ENVIRONMENT", "MODEL"] if width >= _NARROW else []
    for name in names:
        right = name in ("ROUND", "BASELINE", "CANDIDATE", "AGE")
        grid.add_column(name, justify="right" if right else "left", overflow="fold")
    grid.columns[0].no_wrap = all(len(one.row["key"]) <= _NAME_WIDTH for one in overviews)
    for one in overviews:
        grid.add_row(*(Text(cell) for cell in _cells(one, now)[: len(names)]))
    return grid


def _cells(one: Overview, now: datetime) -> list[str]:
    key, old = one.row["key"], format_age((now - one.row["created_at"]).total_seconds())
    if one.progress is None:
        return [key, UNREADABLE, "", "", "", "", old, "", ""]
    spec, number = one.progress.run.spec, one.progress.plan.round
    last = one.verdicts[-1] if one.verdicts else None
    return [
        key,
        one.phase,
        f"{number}/{spec.rounds.max_rounds}",
        format_percent(last["baseline"]) if last else "",
        format_percent(last["candidate"]) if last else "",
        last["verdict"] + (", promoted" if last["promoted"] else "") if last else "",
        old,
        spec.environment.name,
        spec.models.student.model,
    ]
