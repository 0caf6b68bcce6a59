"""The progress of a run, for a person: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distillery.executors.gpus import Gpu
from distillery.executors.local import Progress
from distillery.report.numbers import clock, short

_LINE_SECONDS = 15.0
_MARKS = {"running": "▶", "succeeded": "✓", "failed": "✗"}


@dataclass(frozen=True, slots=True)
class Tokens:
    """The token counts of a stage's episodes; ``cached`` is the number of cached prompt tokens, None if unknown."""

    prompt: int
    completion: int
    cached: int | None

    def __str__(self) -> str:
        used = f"{short(self.prompt + self.completion)} tokens"
        if self.cached is None or not self.prompt:
            return used
        return f"{used}, {100 * self.cached / self.prompt:.0f} % cached"


class Pace:
    """How fast running stages go, by what was seen of them: waiting for a server, or for a driver, does not count."""

    def __init__(self) -> None:
        self._from: dict[str, tuple[float, int]] = {}

    def rate(self, row: Mapping[str, Any], now: float) -> float | None:
        """Units a second since the stage was last seen without progress; None before there is any."""
        since, done = self._from.get(row["name"], (now, row["done"]))
        if row["done"] <= done:
            self._from[row["name"]] = (now, row["done"])
            return None
        return (row["done"] - done) / (now - since) if now > since else None


class Display:
    """Shows progress while entered; call it with each :class:`Progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._told: dict[str, tuple[str, float]] = {}
        self._pace = Pace()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(
        self, progress: Progress, *, tokens: Mapping[str, Tokens] | None = None, gpus: Sequence[Gpu] = ()
    ) -> None:
        """Show the newest state."""
        tokens = tokens or {}
        now = time.monotonic()
        rates = {row["name"]: self._pace.rate(row, now) for row in progress.rows if row["phase"] == "running"}
        if self._live:
            shown = table(
                progress.rows,
                title=progress.run.key,
                message=progress.plan.message,
                rates=rates,
                tokens=tokens,
                gpus=gpus,
                height=self._console.height,
            )
            self._live.update(shown)
            return
        for row in progress.rows:
            name = row["name"]
            phase, told_at = self._told.get(name, ("", 0.0))
            due = row["phase"] == "running" and now - told_at > _LINE_SECONDS
            if row["phase"] != phase or due:
                self._told[name] = (row["phase"], now)
                self._tell(line(row, rate=rates.get(name), tokens=tokens.get(name)))
                for gpu in gpus if row["phase"] == "running" else ():
                    self._tell(str(gpu))

    def _tell(self, text: str) -> None:
        self._console.print(f"{datetime.now().astimezone():%H:%M:%S}  {text}", highlight=False, soft_wrap=True)


def table(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    message: str,
    rates: Mapping[str, float | None] | None = None,
    tokens: Mapping[str, Tokens] | None = None,
    gpus: Sequence[Gpu] = (),
    height: int | None = None,
) -> Group:
    """The stages with their progress.

    Args:
        rows: of the table ``stage``, in order.
        title: the run.
        message: one sentence.
        rates: units a second, by stage.
        tokens: what stages cost, by stage.
        gpus: this machine's.
        height: lines there are; where they are too few, the oldest stages that are done become one line.
    """
    rates, tokens = rates or {}, tokens or {}
    grid = Table(box=None, pad_edge=False, show_header=False)
    folded = _folded(rows, None if height is None else height - len(gpus) - 4)
    if folded:
        seconds = sum((row["finished_at"] - row["started_at"]).total_seconds() for row in rows[:folded])
        grid.add_row(Text(_MARKS["succeeded"], "dim"), Text(f"{folded} stages", "dim"), "", Text(clock(seconds), "dim"))
    for row in rows[folded:]:
        name = row["name"]
        style = {"running": "bold", "failed": "red"}.get(row["phase"], "dim")
        bar = ProgressBar(total=row["total"] or 1, completed=row["done"], width=24) if row["phase"] == "running" else ""
        told = detail(row, rate=rates.get(name), tokens=tokens.get(name))
        grid.add_row(Text(_MARKS[row["phase"]], style), Text(name, style), bar, Text(told, style))
    return Group(Text.assemble((title, "bold"), "  ", message), grid, *(Text(str(gpu), "cyan") for gpu in gpus))


def _folded(rows: Sequence[Mapping[str, Any]], lines: int | None) -> int:
    """How many of the first stages share a line, so that all fit into so many; only those that are done."""
    if lines is None or len(rows) <= lines:
        return 0
    done = next((index for index, row in enumerate(rows) if row["phase"] != "succeeded"), len(rows))
    folded = min(done, len(rows) - max(1, lines) + 1)
    return folded if folded > 1 else 0


def line(row: Mapping[str, Any], *, rate: float | None = None, tokens: Tokens | None = None) -> str:
    """A stage in one line."""
    return f"{_MARKS[row['phase']]} {row['name']}: {row['phase']}  {detail(row, rate=rate, tokens=tokens)}".rstrip()


def detail(row: Mapping[str, Any], *, rate: float | None = None, tokens: Tokens | None = None) -> str:
    """How far a stage is, how fast it goes and when it will be done; how long it took; or what went wrong.

    Without a ``rate`` that of the whole time since its start is taken.
    """
    end = row["finished_at"] or datetime.now(UTC)
    seconds = max(0.0, (end - row["started_at"]).total_seconds())
    cost = f"  {tokens}" if tokens else ""
    if row["phase"] == "failed":
        return f"attempt {row['attempts']}: {row['message']}"
    if row["phase"] == "succeeded":
        return f"{clock(seconds)}{cost}"
    if not row["total"]:
        return f"{row['unit']}  {clock(seconds)}".strip()
    text = f"{row['done']}/{row['total']} {row['unit']}  {clock(seconds)}"
    if 0 < row["done"] < row["total"] and seconds > 0:
        rate = rate or row["done"] / seconds
        text += f"  {rate:.1f}/s  {clock((row['total'] - row['done']) / rate)} left"
    return text + cost
