"""``distillery compare``: two runs of this machine, their settings and their success side by side."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from distillery.cli.display.display import plain_console
from distillery.cli.display.overview import Overview, read_overview
from distillery.cli.errors import EXIT_FAILED, complain
from distillery.core.api import DistillationRun, canonical
from distillery.core.api.problems import flatten, format_value
from distillery.database import Database
from distillery.database.episodes import EpisodeStore
from distillery.database.runs import RunStore
from distillery.evaluation.arms import ArmResults, read_results
from distillery.evaluation.statistics import Difference, compare_paired
from distillery.formatting import format_p_value, format_percent, format_points
from distillery.local import workspace


@dataclass(frozen=True, slots=True)
class ArmPair:
    """One arm in two runs, each in its last round that ended.

    Attributes:
        arm: its name.
        first: its success in the first run; None if it was not played.
        second: likewise in the second run.
        difference: second less first over the tasks that both were judged on; None if there are none.
    """

    arm: str
    first: float | None
    second: float | None
    difference: Difference | None


async def show_comparison(options: argparse.Namespace) -> int:
    """Print the settings in which two runs differ, and the success of their arms."""
    with workspace.database() as (dsn, _):
        async with Database(dsn) as database:
            runs = RunStore(database)
            first, second = [await read_overview(database, await runs.find(name)) for name in options.runs]
            if first.progress is None or second.progress is None:
                unreadable = second if first.progress else first
                return complain(f"{unreadable.row['key']}: {unreadable.message}", EXIT_FAILED)
            played = [await _read_last_results(database, one) for one in (first, second)]
    settings = compare_settings(first.progress.run, second.progress.run)
    same_tasks = _read_task_source(first) == _read_task_source(second)
    arms = compare_arms(*played, same_tasks=same_tasks)
    if options.json:
        print(json.dumps(_to_json(first, second, settings, arms), indent=1))
        return 0
    console = plain_console()
    for number, one in enumerate((first, second), 1):
        console.print(f"run {number}: {one.row['key']}  {one.phase}. {one.message}", highlight=False, markup=False)
    console.print()
    console.print(build_settings_table(settings) if settings else "all settings are the same")
    console.print()
    if not arms:
        console.print("a round has to end in both runs before their success can be compared")
        return 0
    console.print(build_arms_table(arms))
    note = "DIFFERENCE is run 2 minus run 1, in points, over the tasks that both were judged on."
    different = "The runs were judged on different tasks, so no difference is computed."
    console.print(note if same_tasks else different, highlight=False)
    return 0


async def _read_last_results(database: Database, one: Overview) -> dict[str, ArmResults]:
    """Return the results of the last round that ended, by arm."""
    assert one.progress is not None
    if not one.verdicts:
        return {}
    arms = one.progress.run.spec.evaluation.arms
    return await read_results(EpisodeStore(database, one.row["id"]), one.verdicts[-1]["round"], arms)


def _read_task_source(one: Overview) -> Any:
    """Return the origin of a run's tasks: equal ids name equal tasks where it is the same."""
    assert one.progress is not None
    prepared = next((row["result"] for row in one.progress.rows if row["name"] == "prepare"), None) or {}
    return prepared.get("environment")


def compare_settings(first: DistillationRun, second: DistillationRun) -> list[tuple[str, Any, Any]]:
    """Return the fields of the spec in which two runs differ, with both values; defaults count as values."""
    left, right = (flatten(canonical(run)["spec"], "spec") for run in (first, second))
    return [
        (path, left.get(path), right.get(path))
        for path in dict.fromkeys([*left, *right])
        if left.get(path) != right.get(path)
    ]


def compare_arms(
    first: Mapping[str, ArmResults], second: Mapping[str, ArmResults], *, same_tasks: bool
) -> list[ArmPair]:
    """Compare every arm that either run played; return none if one of the runs has played nothing."""
    if not (first and second):
        return []
    pairs = list[ArmPair]()
    for arm in dict.fromkeys([*first, *second]):
        one, other = first.get(arm), second.get(arm)
        difference = _compare_arm(one, other) if one and other and same_tasks else None
        pairs.append(
            ArmPair(arm, one.mean("success") if one else None, other.mean("success") if other else None, difference)
        )
    return pairs


def _compare_arm(first: ArmResults, second: ArmResults) -> Difference | None:
    a, b = second.of("success"), first.of("success")
    shared = a.keys() & b.keys()
    return compare_paired({task: a[task] for task in shared}, {task: b[task] for task in shared}) if shared else None


def build_settings_table(settings: Sequence[tuple[str, Any, Any]]) -> Table:
    """Return a table with a line for each field in which two runs differ."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("SETTING", "RUN 1", "RUN 2"):
        grid.add_column(name, overflow="fold")
    for path, one, other in settings:
        grid.add_row(*(Text(cell) for cell in (path, format_value(one), format_value(other))))
    return grid


def build_arms_table(arms: Sequence[ArmPair]) -> Table:
    """Return a table with a line for each arm, with its success in both runs."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ARM", "RUN 1 %", "RUN 2 %", "DIFFERENCE", "95 % INTERVAL", "P", "TASKS"):
        grid.add_column(name, justify="left" if name == "ARM" else "right", overflow="fold")
    for pair in arms:
        d = pair.difference
        compared = (
            [
                format_points(d.difference),
                f"{format_points(d.low)} to {format_points(d.high)}",
                format_p_value(d.p),
                str(d.tasks),
            ]
            if d
            else []
        )
        grid.add_row(pair.arm, format_percent(pair.first), format_percent(pair.second), *compared)
    return grid


def _to_json(
    first: Overview, second: Overview, settings: Sequence[tuple[str, Any, Any]], arms: Sequence[ArmPair]
) -> dict[str, Any]:
    return {
        "first": first.to_json(),
        "second": second.to_json(),
        "settings": [{"path": path, "first": one, "second": other} for path, one, other in settings],
        "arms": [
            {
                "arm": pair.arm,
                "first": pair.first,
                "second": pair.second,
                "difference": d.difference if (d := pair.difference) else None,
                "ci": [d.low, d.high] if d else None,
                "p": d.p if d else None,
                "tasks": d.tasks if d else None,
                "test": d.test if d else None,
            }
            for pair in arms
        ],
    }
