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

from distillery.cli.display.gpus import Gpu
from distillery.core.planner.graph import BASE, StageId, round_stages
from distillery.core.planner.plan import find_pending
from distillery.formatting import clock, short
from distillery.local.executor import Progress

_LINE_SECONDS = 15.0
_MARKS = {"running": "▶", "succeeded": "✓", "failed": "✗", "interrupted": "■", "pending": "·"}
_STYLES = {"running": "bold", "failed": "red", "interrupted": "yellow"}
_NARROW = 100  # columns below which there are neither progress bars nor tokens


def plain_console() -> Console:
    """Return a console for what is printed once. Lines in a file are as long as what they hold."""
    console = Console()
    return console if console.is_terminal else Console(width=1000)


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
    """The rate of running stages, by what was seen of them: waiting for a server, or for a driver, does not count."""

    def __init__(self) -> None:
        self._from: dict[str, tuple[float, int]] = {}

    def rate(self, row: Mapping[str, Any], now: float) -> float | None:
        """Return the units a second since the stage was last seen without progress; None before there is any."""
        since, done = self._from.get(row["name"], (now, row["done"]))
        if row["done"] <= done:
            self._from[row["name"]] = (now, row["done"])
            return None
        return (row["done"] - done) / (now - since) if now > since else None


class Display:
    """A display of progress while entered; call it with each :class:`Progress`."""

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
        rows = stages_as_seen(progress)
        rates = {row["name"]: self._pace.rate(row, now) for row in rows if row["phase"] == "running"}
        if self._live:
            shown = table(
                rows,
                title=progress.run.key,
                message=progress.plan.message,
                pending=pending_names(progress),
                rates=rates,
                tokens=tokens,
                gpus=gpus,
                height=self._console.height,
                width=self._console.width,
            )
            self._live.update(shown)
            return
        for row in rows:
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


def stages_as_seen(progress: Progress) -> list[dict[str, Any]]:
    """Return the rows of stages for a person: interrupted if no process drives them, with the number of their arms."""
    spec, rounds = progress.run.spec, {StageId.parse(row["name"]).round for row in progress.rows}
    arms = {str(stage.id): len(stage.arms) for number in rounds for stage in round_stages(spec, number, BASE)}
    return [
        {
            **row,
            "phase": "interrupted" if row["phase"] == "running" and not progress.driven else row["phase"],
            "arms": arms.get(row["name"], 0),
        }
        for row in progress.rows
    ]


def pending_names(progress: Progress) -> list[str]:
    """Return the names of the stages that the round of a plan has left to start."""
    started = {StageId.parse(row["name"]) for row in progress.rows}
    return [str(sid) for sid in find_pending(progress.run.spec, progress.plan, started)]


def outlook(rows: Sequence[Mapping[str, Any]], pending: Sequence[str]) -> str:
    """Describe how many stages of the round are done, and how long the others take if an earlier round shows it."""
    unfinished = [*(row["name"] for row in rows if row["phase"] != "succeeded"), *pending]
    if not unfinished:
        return ""
    number = max(StageId.parse(name).round for name in (*unfinished, *(row["name"] for row in rows)))
    of_round = [row for row in rows if StageId.parse(row["name"]).round in (0, number)]
    done = sum(row["phase"] == "succeeded" for row in of_round)
    text = f"{done} of {len(of_round) + len(pending)} stages done"
    took = {row["name"]: _seconds(row) for row in rows if row["phase"] == "succeeded"}
    earlier = [took.get(name.replace(f"r{number}-", f"r{number - 1}-", 1)) for name in unfinished]
    if any(seconds is None for seconds in earlier):
        return text
    running = sum(_seconds(row) for row in rows if row["phase"] == "running")
    left = max(0.0, sum(seconds or 0.0 for seconds in earlier) - running)
    return f"{text}, some {clock(left)} left if they take as long as in round {number - 1}"


def _seconds(row: Mapping[str, Any]) -> float:
    end = row["finished_at"] or datetime.now(UTC)
    return max(0.0, (end - row["started_at"]).total_seconds())


def table(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    message: str,
    pending: Sequence[str] = (),
    rates: Mapping[str, float | None] | None = None,
    tokens: Mapping[str, Tokens] | None = None,
    gpus: Sequence[Gpu] = (),
    height: int | None = None,
    width: int | None = None,
) -> Group:
    """Return the stages with their progress, and those to come.

    Args:
        rows: of the table ``stage``, in order, as :func:`stages_as_seen` returns them.
        title: the run.
        message: one sentence.
        pending: names of the stages to come.
        rates: units a second, by stage.
        tokens: what stages cost, by stage.
        gpus: this machine's.
        height: lines there are; where they are too few, the stages to come become one line, and then the oldest
            stages that are done.
        width: columns there are.
    """
    rates, tokens = rates or {}, tokens or {}
    lines = None if height is None else height - len(gpus) - 4 - bool(pending)
    grid = Table(box=None, pad_edge=False, show_header=False)
    is_short = lines is not None and len(rows) + len(pending) > lines and len(pending) > 1
    folded = _folded(rows, None if lines is None else lines - (1 if is_short else len(pending)))
    is_wide = width is None or width >= _NARROW

    def add(mark: str, name: str, shown: str, *, style: str = "dim", bar: ProgressBar | str = "") -> None:
        text = Text(shown, style, no_wrap=isinstance(bar, ProgressBar), overflow="ellipsis" if bar else "fold")
        grid.add_row(Text(mark, style), Text(name, style), *([bar] if is_wide else []), text)

    if folded:
        add(_MARKS["succeeded"], f"{folded} stages", clock(sum(_seconds(row) for row in rows[:folded])))
    for row in rows[folded:]:
        name, phase = row["name"], row["phase"]
        bar = ProgressBar(total=row["total"] or 1, completed=row["done"], width=24) if phase == "running" else ""
        shown = detail(row, rate=rates.get(name), tokens=tokens.get(name) if is_wide else None)
        add(_MARKS[phase], name, shown, style=_STYLES.get(phase, "dim"), bar=bar)
    ahead = list[Text]()
    if is_short:
        names = f"{_MARKS['pending']}  {len(pending)} more: {', '.join(pending)}"
        ahead.append(Text(names, "dim", no_wrap=True, overflow="ellipsis"))
    else:
        for name in pending:
            add(_MARKS["pending"], name, "")
    if pending:
        ahead.append(Text(outlook(rows, pending), "dim"))
    return Group(Text.assemble((title, "bold"), "  ", message), grid, *ahead, *(Text(str(g), "cyan") for g in gpus))


def _folded(rows: Sequence[Mapping[str, Any]], lines: int | None) -> int:
    """How many of the first stages share a line, so that all fit into so many; only those that are done."""
    if lines is None or len(rows) <= lines:
        return 0
    done = next((index for index, row in enumerate(rows) if row["phase"] != "succeeded"), len(rows))
    folded = min(done, len(rows) - max(1, lines) + 1)
    return folded if folded > 1 else 0


def line(row: Mapping[str, Any], *, rate: float | None = None, tokens: Tokens | None = None) -> str:
    """Format a stage in one line."""
    return f"{_MARKS[row['phase']]} {row['name']}: {row['phase']}  {detail(row, rate=rate, tokens=tokens)}".rstrip()


def detail(row: Mapping[str, Any], *, rate: float | None = None, tokens: Tokens | None = None) -> str:
    """Describe a stage's progress, rate and time left; how long it took; or what went wrong.

    Without a ``rate`` that of the whole time since its start is taken.
    """
    seconds = _seconds(row)
    cost = f"  {tokens}" if tokens else ""
    if row["phase"] == "failed":
        return f"attempt {row['attempts']}: {row['message']}"
    if row["phase"] == "succeeded":
        return f"{clock(seconds)}{cost}"
    unit = row["unit"]
    if row.get("arms", 0) > 1:
        unit = unit.replace("episodes", f"episodes, {row['arms']} arms", 1)
    if row["phase"] == "interrupted":
        return (f"interrupted at {row['done']}/{row['total']} {unit}" if row["total"] else "interrupted") + cost
    if not row["total"]:
        return f"{unit}  {clock(seconds)}".strip()
    text = f"{row['done']}/{row['total']} {unit}  {clock(seconds)}"
    if 0 < row["done"] < row["total"] and seconds > 0:
        rate = rate or row["done"] / seconds
        text += f"  {rate:.1f}/s  {clock((row['total'] - row['done']) / rate)} left"
    return text + cost
