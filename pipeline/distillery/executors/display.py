"""The progress of a run, for a person: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distillery.executors.local import Progress

_LINE_SECONDS = 15.0
_MARKS = {"running": "▶", "succeeded": "✓", "failed": "✗"}


class Display:
    """Shows progress while entered; call it with each :class:`Progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._told: dict[str, tuple[str, float]] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        """Show the newest state."""
        if self._live:
            self._live.update(table(progress.rows, title=progress.run.key, message=progress.plan.message))
            return
        for row in progress.rows:
            phase, told_at = self._told.get(row["name"], ("", 0.0))
            due = row["phase"] == "running" and time.monotonic() - told_at > _LINE_SECONDS
            if row["phase"] != phase or due:
                self._told[row["name"]] = (row["phase"], time.monotonic())
                self._console.print(
                    f"{datetime.now().astimezone():%H:%M:%S}  {line(row)}", highlight=False, soft_wrap=True
                )


def table(rows: list[dict[str, Any]], *, title: str, message: str) -> Group:
    """The stages with their progress."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        style = {"running": "bold", "failed": "red"}.get(row["phase"], "dim")
        bar = ProgressBar(total=row["total"] or 1, completed=row["done"], width=24) if row["phase"] == "running" else ""
        grid.add_row(Text(_MARKS[row["phase"]], style), Text(row["name"], style), bar, Text(detail(row), style))
    return Group(Text.assemble((title, "bold"), "  ", message), grid)


def line(row: Mapping[str, Any]) -> str:
    """A stage in one line."""
    return f"{_MARKS[row['phase']]} {row['name']}: {row['phase']}  {detail(row)}".rstrip()


def detail(row: Mapping[str, Any]) -> str:
    """How far a stage is, how fast it goes and when it will be done; how long it took; or what went wrong."""
    end = row["finished_at"] or datetime.now(UTC)
    seconds = max(0.0, (end - row["started_at"]).total_seconds())
    if row["phase"] == "failed":
        return f"attempt {row['attempts']}: {row['message']}"
    if row["phase"] == "succeeded":
        return clock(seconds)
    if not row["total"]:
        return f"{row['unit']}  {clock(seconds)}".strip()
    text = f"{row['done']}/{row['total']} {row['unit']}  {clock(seconds)}"
    if 0 < row["done"] < row["total"] and seconds > 0:
        rate = row["done"] / seconds
        text += f"  {rate:.1f}/s  {clock((row['total'] - row['done']) / rate)} left"
    return text


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
