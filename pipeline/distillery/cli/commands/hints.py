"""``distillery hints``: the hint bank of a run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from distillery.cli.display.display import plain_console
from distillery.cli.display.overview import parse_stored_run
from distillery.core.planner.plays import teacher_plays_alike
from distillery.database import Database
from distillery.database.runs import RunStore
from distillery.formatting import format_percent
from distillery.hints.bank import HintBank
from distillery.local import workspace
from distillery.report.data import describe_hint

_NARROW = 110


async def show_hints(options: argparse.Namespace) -> int:
    """Print the hint bank of a run."""
    with workspace.database() as (dsn, _):
        async with Database(dsn) as database:
            run = parse_stored_run(await RunStore(database).find(options.run))
            bank = HintBank.of(run, database)
            rows = await bank.statistics(plays_alike=teacher_plays_alike(run.spec))
    if options.json:
        print(json.dumps([describe_hint(row) for row in rows], indent=1))
        return 0
    console = plain_console()
    console.print(build_hint_table(rows[: options.limit], width=console.width))
    console.print(f"{min(options.limit, len(rows))} of {len(rows)} hints", highlight=False)
    console.print(
        "success of the teacher's episodes with the hint, of the same tasks without hints, of its episodes of "
        "the same categories with other hints"
    )
    return 0


def build_hint_table(rows: Sequence[Mapping[str, Any]], *, width: int) -> Table:
    """Return a table of hints with their statistics, each hint whole; without its origin if columns are few."""
    grid = Table(
        Column("hint", min_width=24, overflow="fold"),
        Column("for", overflow="fold"),
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for name in ("support", "uses", "with %", "no hints %", "others %"):
        grid.add_column(name, justify="right", no_wrap=True)
    if width >= _NARROW:
        grid.add_column("from")
    for row in rows:
        cells = [
            row["text"],
            row["category"] or "all",
            str(row["support"]),
            str(row["uses"]),
            format_percent(row["success_with"]),
            format_percent(row["success_without_hints"]),
            format_percent(row["success_without"]),
            f"round {row['round']}, {row['extractor']}{' ' + row['model'] if row['model'] else ''}",
        ]
        grid.add_row(*map(Text, cells[: len(grid.columns)]))  # models write hints, and may write markup
    return grid
