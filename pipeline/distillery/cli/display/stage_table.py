"""The stages of a run as a table or as lines: their progress, their cost, and the time left. Pure but for the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distillery.cli.display.gpus import Gpu
from distillery.core.planner.graph import StageId
from distillery.core.planner.plan import find_pending, stages_so_far
from distillery.database.stages import states_of
from distillery.formatting import format_clock, format_short
from distillery.local.executor import RunProgress

_MARKS = {"running": "▶", "succeeded": "✓", "failed": "✗", "interrupted": "■", "pending": "·"}
_STYLES = {"running": "bold", "failed": "red", "interrupted": "yellow"}
_NARROW = 100  # columns below which there are neither progress bars nor tokens


@dataclass(frozen=True, slots=True)
class Tokens:
    """The token counts of a stage's episodes; ``cached`` is the number of cached prompt tokens, None if unknown."""

    prompt: int
    completion: int
    cached: int | None

    def __str__(self) -> str:
        used = f"{format_short(self.prompt + self.completion)} tokens"
        if self.cached is None or not self.prompt:
            return used
        return f"{used}, {100 * self.cached / self.prompt:.0f} % cached"


def list_stages(progress: RunProgress) -> list[dict[str, Any]]:
    """Return the rows of stages for a person: interrupted if no process drives them, with the number of their arms."""
    arms = {str(stage.id): len(stage.arms) for stage in stages_so_far(progress.run.spec, states_of(progress.rows))}
    return [
        {
            **row,
            "phase": "interrupted" if row["phase"] == "running" and not progress.driven else row["phase"],
            "arms": arms.get(row["name"], 0),
        }
        for row in progress.rows
    ]


def list_pending(progress: RunProgress) -> list[str]:
    """Return the names of the stages that the round of a plan has left to start."""
    started = {StageId.parse(row["name"]) for row in progress.rows}
    return [str(sid) for sid in find_pending(progress.run.spec, progress.plan, started)]


def describe_outlook(rows: Sequence[Mapping[str, Any]], pending: Sequence[str]) -> str:
    """Describe how many stages of the round are done, and how long the others take if an earlier round shows it."""
    unfinished = [*(row["name"] for row in rows if row["phase"] != "succeeded"), *pending]
    if not unfinished:
        return ""
    number = max(StageId.parse(name).round for name in (*unfinished, *(row["name"] for row in rows)))
    of_round = [row for row in rows if StageId.parse(row["name"]).round in (0, number)]
    done = sum(row["phase"] == "succeeded" for row in of_round)
    text = f"{done} of {len(of_round) + len(pending)} stages done"
    took = {row["name"]: _measure_seconds(row) for row in rows if row["phase"] == "succeeded"}
    earlier = [took.get(name.replace(f"r{number}-", f"r{number - 1}-", 1)) for name in unfinished]
    if any(seconds is None for seconds in earlier):
        return text
    running = sum(_measure_seconds(row) for row in rows if row["phase"] == "running")
    left = max(0.0, sum(seconds or 0.0 for seconds in earlier) - running)
    return f"{text}, some {format_clock(left)} left if they take as long as in round {number - 1}"


def _measure_seconds(row: Mapping[str, Any]) -> float:
    """Return how long a stage took, or has been running."""
    end = row["finished_at"] or datetime.now(UTC)
    return max(0.0, (end - row["started_at"]).total_seconds())


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment, as it is shown.

    Attributes:
        title: the run.
        message: one sentence.
        rows: of the table ``stage``, in order, as :func:`list_stages` returns them.
        pending: names of the stages to come.
        rates: units a second, by stage.
        tokens: what stages cost, by stage.
        gpus: this machine's.
    """

    title: str
    message: str
    rows: Sequence[Mapping[str, Any]]
    pending: Sequence[str] = ()
    rates: Mapping[str, float | None] = field(default_factory=dict)
    tokens: Mapping[str, Tokens] = field(default_factory=dict)
    gpus: Sequence[Gpu] = ()


def build_table(snapshot: Snapshot, *, height: int | None = None, width: int | None = None) -> Group:
    """Return the stages with their progress, and those to come.

    Args:
        snapshot: of the run.
        height: lines there are; where they are too few, the stages to come become one line, and then the oldest
            stages that are done.
        width: columns there are.
    """
    rows, pending = snapshot.rows, snapshot.pending
    lines = None if height is None else height - len(snapshot.gpus) - 4 - bool(pending)
    grid = Table(box=None, pad_edge=False, show_header=False)
    is_short = lines is not None and len(rows) + len(pending) > lines and len(pending) > 1
    folded = _count_folded(rows, None if lines is None else lines - (1 if is_short else len(pending)))
    is_wide = width is None or width >= _NARROW

    def add(mark: str, name: str, shown: str, *, style: str = "dim", bar: ProgressBar | str = "") -> None:
        text = Text(shown, style, no_wrap=isinstance(bar, ProgressBar), overflow="ellipsis" if bar else "fold")
        grid.add_row(Text(mark, style), Text(name, style), *([bar] if is_wide else []), text)

    if folded:
        add(_MARKS["succeeded"], f"{folded} stages", format_clock(sum(_measure_seconds(row) for row in rows[:folded])))
    for row in rows[folded:]:
        name, phase = row["name"], row["phase"]
        bar = ProgressBar(total=row["total"] or 1, completed=row["done"], width=24) if phase == "running" else ""
        tokens = snapshot.tokens.get(name) if is_wide else None
        shown = describe_stage(row, rate=snapshot.rates.get(name), tokens=tokens)
        add(_MARKS[phase], name, shown, style=_STYLES.get(phase, "dim"), bar=bar)
    ahead = list[Text]()
    if is_short:
        names = f"{_MARKS['pending']}  {len(pending)} more: {', '.join(pending)}"
        ahead.append(Text(names, "dim", no_wrap=True, overflow="ellipsis"))
    else:
        for name in pending:
            add(_MARKS["pending"], name, "")
    if pending:
        ahead.append(Text(describe_outlook(rows, pending), "dim"))
    title = Text.assemble((snapshot.title, "bold"), "  ", snapshot.message)
    return Group(title, grid, *ahead, *(Text(str(gpu), "cyan") for gpu in snapshot.gpus))


def _count_folded(rows: Sequence[Mapping[str, Any]], lines: int | None) -> int:
    """Return how many of the first stages, all done, share a line so that all fit into ``lines``."""
    if lines is None or len(rows) <= lines:
        return 0
    done = next((index for index, row in enumerate(rows) if row["phase"] != "succeeded"), len(rows))
    folded = min(done, len(rows) - max(1, lines) + 1)
    return folded if folded > 1 else 0


def format_stage(row: Mapping[str, Any], *, rate: float | None = None, tokens: Tokens | None = None) -> str:
    """Format a stage in one line."""
    text = describe_stage(row, rate=rate, tokens=tokens)
    return f"{_MARKS[row['phase']]} {row['name']}: {row['phase']}  {text}".rstrip()


def describe_stage(row: Mapping[str, Any], *, rate: float | None = None, tokens: Tokens | None = None) -> str:
    """Describe a stage's progress, rate and time left; how long it took; or what went wrong.

    Without a ``rate`` that of the whole time since its start is taken.
    """
    seconds = _measure_seconds(row)
    cost = f"  {tokens}" if tokens else ""
    if row["phase"] == "failed":
        return f"attempt {row['attempts']}: {row['message']}"
    if row["phase"] == "succeeded":
        return f"{format_clock(seconds)}{cost}"
    unit = row["unit"]
    if row.get("arms", 0) > 1:
        unit = unit.replace("episodes", f"episodes, {row['arms']} arms", 1)
    if row["phase"] == "interrupted":
        return (f"interrupted at {row['done']}/{row['total']} {unit}" if row["total"] else "interrupted") + cost
    if not row["total"]:
        return f"{unit}  {format_clock(seconds)}".strip()
    text = f"{row['done']}/{row['total']} {unit}  {format_clock(seconds)}"
    if 0 < row["done"] < row["total"] and seconds > 0:
        rate = rate or row["done"] / seconds
        text += f"  {rate:.1f}/s  {format_clock((row['total'] - row['done']) / rate)} left"
    return text + cost
