"""``distillery logs``: the logs of a run's stages and of its model server."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from distillery.cli.commands import cluster_logs
from distillery.cli.errors import EXIT_FAILED, complain
from distillery.core.api.problems import suggest_name
from distillery.database import Database
from distillery.database.runs import RunStore, UnknownRun
from distillery.database.stages import StageStore
from distillery.local import workspace

_POLL_SECONDS = 0.5
_BLOCK = 1 << 16


async def show_logs(options: argparse.Namespace) -> int:
    """Print the log of a stage, and with ``--follow`` what is added to it.

    A run that this machine does not have is looked for on the cluster.
    """
    unknown = ""
    if options.context is None and workspace.has_database():
        try:
            return await _show_logs_here(options)
        except UnknownRun as error:
            unknown = str(error)
    try:
        return await cluster_logs.show_logs(options)
    except RuntimeError as error:
        raise RuntimeError(f"on this machine {unknown}\non the cluster: {error}" if unknown else str(error)) from error


async def _show_logs_here(options: argparse.Namespace) -> int:
    with workspace.database() as (dsn, _):
        async with Database(dsn) as database:
            row = await RunStore(database).find(options.run)
            stages = await StageStore(database, row["id"]).read()
    folder = workspace.folder_of_key(row["key"]) / "logs"
    names = sorted(path.stem for path in folder.glob("*.log"))
    name = options.stage or choose_stage(stages, names)
    if name not in names:
        return complain(_missing(row["key"], options.stage, names, folder), EXIT_FAILED)
    if not options.stage:
        others = ", ".join(other for other in names if other != name)
        print(f"log of {name}; others: {others or 'none'}", file=sys.stderr)
    path = folder / f"{name}.log"
    position = print_end(path, lines=options.tail)
    while options.follow:
        await asyncio.sleep(_POLL_SECONDS)
        position = print_from(path, position)
    return 0


def choose_stage(stages: Iterable[Mapping[str, Any]], logged: Sequence[str]) -> str | None:
    """Return the stage whose log to show by default: one that failed, else the one that started last."""
    with_log = [row for row in stages if row["name"] in logged]
    failed = [row for row in with_log if row["phase"] == "failed"]
    chosen = failed or with_log
    return chosen[-1]["name"] if chosen else None


def _missing(key: str, stage: str | None, logged: Sequence[str], folder: Path) -> str:
    if not logged:
        return f"run {key} has no logs in {folder} yet; see distillery status {key}"
    if stage is None:
        return f"no stage of run {key} has a log yet; there are logs of {', '.join(logged)}"
    return f"there is no log of {stage} in {folder}; {suggest_name(stage, logged)}"


def print_end(path: Path, *, lines: int | None) -> int:
    """Print a file, or its last lines, and return the position after them."""
    if lines is None:
        return print_from(path, 0)
    with path.open("rb") as file:
        position = find_start_of_end(file, lines)
    return print_from(path, position)


def find_start_of_end(file: BinaryIO, lines: int) -> int:
    """Return the position of a file's last lines. It reads blocks from the end, and no more of them than it needs."""
    position = size = file.seek(0, os.SEEK_END)
    while position and lines:
        begin = max(0, position - _BLOCK)
        file.seek(begin)
        block = file.read(position - begin)
        # a line break at the very end ends the last line, and begins none
        at = len(block) - (position == size)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            lines -= 1
            if not lines:
                return begin + at + 1
        position = begin
    return 0 if lines else size


def print_from(path: Path, position: int) -> int:
    """Print a file from a position on, and return the position after it. A file that became shorter began again."""
    with path.open("rb") as file:
        if path.stat().st_size < position:
            position = 0
        file.seek(position)
        while block := file.read(_BLOCK):
            _write(block)
        return file.tell()


def _write(content: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
