"""The progress of a run, for a person: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live

from distillery.cli.display.gpus import Gpu
from distillery.cli.display.stage_table import Snapshot, Tokens, build_table, format_stage, list_pending, list_stages
from distillery.local.executor import RunProgress

_LINE_SECONDS = 15.0


def plain_console() -> Console:
    """Return a console for what is printed once. Lines in a file are as long as what they hold."""
    console = Console()
    return console if console.is_terminal else Console(width=1000)


class Throughput:
    """The rate of running stages; time in which they wait for a server or a driver does not count."""

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
    """A display of progress while entered; call it with each :class:`RunProgress`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._printed: dict[str, tuple[str, float]] = {}
        self._throughput = Throughput()

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
        self, progress: RunProgress, *, tokens: Mapping[str, Tokens] | None = None, gpus: Sequence[Gpu] = ()
    ) -> None:
        """Show the newest state."""
        tokens = tokens or {}
        now = time.monotonic()
        rows = list_stages(progress)
        rates = {row["name"]: self._throughput.rate(row, now) for row in rows if row["phase"] == "running"}
        if self._live:
            snapshot = Snapshot(
                title=progress.run.key,
                message=progress.plan.message,
                rows=rows,
                pending=list_pending(progress),
                rates=rates,
                tokens=tokens,
                gpus=gpus,
            )
            self._live.update(build_table(snapshot, height=self._console.height, width=self._console.width))
            return
        for row in rows:
            name = row["name"]
            phase, printed_at = self._printed.get(name, ("", 0.0))
            due = row["phase"] == "running" and now - printed_at > _LINE_SECONDS
            if row["phase"] != phase or due:
                self._printed[name] = (row["phase"], now)
                self._print_line(format_stage(row, rate=rates.get(name), tokens=tokens.get(name)))
                for gpu in gpus if row["phase"] == "running" else ():
                    self._print_line(str(gpu))

    def _print_line(self, text: str) -> None:
        self._console.print(f"{datetime.now().astimezone():%H:%M:%S}  {text}", highlight=False, soft_wrap=True)
