"""Runs that exist: which of them are this machine's, and how they are deleted."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

from distillery.api.problems import lookup
from distillery.artifacts import Identity
from distillery.cli import cluster
from distillery.database import Database, Row
from distillery.database.runs import RunLock, UnknownRun, delete, find
from distillery.executors import home


async def find_here(dsn: str, name: str) -> Row | None:
    """The row of a run if this machine's database has it."""
    async with Database(dsn) as database:
        with contextlib.suppress(UnknownRun):
            return await find(database, name)
    return None


async def delete_run(options: argparse.Namespace) -> int:
    """Delete a run of this machine; one that it does not have, on the cluster."""
    if options.context is None and home.has_database():
        with home.database() as (dsn, _):
            if row := await find_here(dsn, options.run):
                return await _delete_here(dsn, row, sure=options.yes)
    there = cluster.deletion(options.run, context=options.context)
    if not (options.yes or _confirm(there.question)):
        return 1
    print(there.carry_out())
    return 0


async def _delete_here(dsn: str, row: Row, *, sure: bool) -> int:
    async with RunLock(dsn, row["id"]), Database(dsn) as database:
        counts = await database.fetch(
            """SELECT (SELECT count(*) FROM episode WHERE run_id = %s) AS episodes,
                      (SELECT count(*) FROM hint WHERE bank = %s) AS hints""",
            row["id"], row["key"],
        )  # fmt: skip
        folders, stays = _folders(row)
        found = ", ".join(f"the folder {folder}" for folder in folders) or "no folder"
        what = f"{counts[0]['episodes']:,} episodes, {counts[0]['hints']:,} hints, {found}"
        if not (sure or _confirm(f"delete run {row['key']} for good: {what}")):
            return 1
        # the rows go last: a deletion that was interrupted can be repeated, and no later run finds what this one left
        for folder in folders:
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise RuntimeError(f"{folder} could not be deleted, and the run stays: {error}") from error
        await delete(database, row["id"])
    print(f"run {row['key']} is deleted: {what}{stays}")
    return 0


def _folders(row: Row) -> tuple[list[Path], str]:
    """A run's folders on this machine, and what stays elsewhere. An earlier run of a name has none that bears it."""
    name, _, former = row["key"].partition("@")
    uri = str(lookup(row["document"], "spec.storage.uri") or "")
    stays = f"; its artifacts stay at {uri}/{name}" if uri.startswith("s3:") else ""
    folders = [] if former else [home.folder_of_key(name)]
    if uri.startswith("file:"):
        shared = Path(unquote(urlparse(uri).path)) / name
        folders += sorted(shared.glob(f"{Identity(str(row['uid']), '').key}*"))
    return [folder for folder in folders if folder.exists()], stays


def _confirm(question: str) -> bool:
    """Ask a person; nobody at the keyboard is a no."""
    if not sys.stdin.isatty():
        print(f"{question}? Add --yes to confirm; nothing is deleted.", file=sys.stderr)
        return False
    if input(f"{question}? [y/N] ").strip().lower() in ("y", "yes"):
        return True
    print("nothing is deleted", file=sys.stderr)
    return False
