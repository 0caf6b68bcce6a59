"""``distillery report``: what came out of a run, as a table, a page, JSON and Markdown."""

from __future__ import annotations

import argparse
import json
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from distillery.cli.display.display import plain_console
from distillery.cli.display.overview import parse_stored_run
from distillery.cli.errors import EXIT_FAILED, complain
from distillery.core.api import DistillationRun
from distillery.database import Database
from distillery.database.runs import RunStore
from distillery.database.stages import StageStore
from distillery.local import workspace
from distillery.report.arms_table import COLUMNS, build_rows, format_markdown
from distillery.report.data import NoReport, build_report
from distillery.report.page import write_report


async def show_report(options: argparse.Namespace) -> int:
    """Print the newest report of a run, and write its page."""
    with workspace.database() as (dsn, _):
        async with Database(dsn) as database:
            run = parse_stored_run(await RunStore(database).find(options.run))
        try:
            form = "json" if options.json else "markdown" if options.markdown else "table"
            folder = await print_report(plain_console(), dsn, run, form=form)
        except NoReport as error:
            return complain(str(error), EXIT_FAILED)
    page = folder / "report.html"
    if options.open and not webbrowser.open(page.as_uri()):
        return complain(f"no browser could be started; open {page}", EXIT_FAILED)
    return 0


def build_arms_table(report: Mapping[str, Any]) -> Table:
    """Return a table with a line for each arm, of numbers that are never folded."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        first = name == COLUMNS[0]
        grid.add_column(name, justify="left" if first else "right", overflow="fold", no_wrap=not first)
    for row in build_rows(report):
        grid.add_row(*row)
    return grid


async def print_report(console: Console, dsn: str, run: DistillationRun, *, form: str = "table") -> Path:
    """Write the newest report next to the run's logs, print it, and return its folder."""
    async with Database(dsn) as database:
        row = await RunStore(database).find(run.key)
        store = workspace.store_of(run, str(row["uid"]), await StageStore(database, row["id"]).read())
        report = await build_report(database, row["id"], run, store, {})
    folder = workspace.folder_of(run) / "report"
    folder.mkdir(parents=True, exist_ok=True)
    write_report(report, folder)
    if form != "table":
        print(json.dumps(report, indent=1) if form == "json" else format_markdown(report))
        return folder
    where = report["environment"]
    console.print()
    console.print(build_arms_table(report))
    console.print(f"tasks: {where['source']}, split {where['split']}", highlight=False, markup=False)
    verdict = report["gate"]
    console.print(f"[bold]{verdict['verdict']}[/bold]. {verdict['reason']}", highlight=False)
    lines = [f"{one['purpose']}: {one['command']}" for one in report["next"]]
    lines += [f"adapter: {report['adapter']['place']}"] if report["adapter"] else []
    for line in [*lines, f"report: {folder / 'report.html'}"]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return folder
