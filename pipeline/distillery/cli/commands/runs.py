"""``distillery run``, ``retry`` and ``delete``: the commands that change the runs of this machine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

from rich.console import Console

from distillery.cli.commands import cluster, preflight
from distillery.cli.commands.report import print_report
from distillery.cli.display.display import Display, plain_console
from distillery.cli.display.overview import parse_stored_run
from distillery.cli.errors import EXIT_CONFIGURATION, EXIT_FAILED, complain, describe_resumption
from distillery.core.api import DistillationRun, load
from distillery.core.api.problems import lookup
from distillery.core.artifacts import Identity
from distillery.core.planner import PlanPhase
from distillery.database import Database, Row
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.runs import RunLock, RunStore, UnknownRun
from distillery.database.sessions import SessionStore
from distillery.database.stages import StageStore
from distillery.local import workspace
from distillery.local.executor import LocalExecutor


async def run(options: argparse.Namespace) -> int:
    """Run a document to its end on this machine."""
    document = load(options.file, changes=options.set)
    console = Console()
    _stop_on_signals(console)
    await preflight.check_here(document, str(options.file), endpoints=False)  # stage prepare asks them
    with workspace.database() as (dsn, embedded):
        return await _execute(document, dsn, embedded, console, options)


async def retry(options: argparse.Namespace) -> int:
    """Resume a run of this machine; start the failed stages of any other again, on the cluster."""
    if options.context is None and workspace.has_database():
        console = Console()
        _stop_on_signals(console)
        with workspace.database() as (dsn, embedded):
            if row := await find_here(dsn, options.run):
                return await _execute(parse_stored_run(row), dsn, embedded, console, options)
    print(cluster.retry(options.run, context=options.context))
    return 0


def _stop_on_signals(console: Console) -> None:
    """Have signals cancel this task, and tell the user at once, for processes take their time to stop."""
    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        console.print("stopping: stages save what they need to resume", highlight=False)
        task.cancel()

    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop)


async def _execute(
    run: DistillationRun, dsn: str, embedded: EmbeddedPostgres | None, console: Console, options: argparse.Namespace
) -> int:
    """Drive a run to its end."""
    with Display(console) as display:
        end = await LocalExecutor(run, dsn, embedded, show=display).execute()
    if end.phase is PlanPhase.FAILED:
        async with Database(dsn) as database:
            states = await StageStore(database, (await RunStore(database).find(run.key))["id"]).read_states()
        permanent = any(state.permanent for state in states.values())
        message = f"\n{end.message}\nFix the cause{describe_resumption(options)}"
        return complain(message, EXIT_CONFIGURATION if permanent else EXIT_FAILED)
    await print_report(plain_console(), dsn, run)
    if end.phase is PlanPhase.WAITING:
        async with Database(dsn) as database:
            count = await SessionStore(
                database, (await RunStore(database).find(run.key))["id"]
            ).count_pending_failures()
        print(f"{end.message} {count} are there: run it again once enough have gathered.")
    return 0


async def find_here(dsn: str, name: str) -> Row | None:
    """Return the row of a run if this machine's database has it, else None."""
    async with Database(dsn) as database:
        with contextlib.suppress(UnknownRun):
            return await RunStore(database).find(name)
    return None


async def delete_run(options: argparse.Namespace) -> int:
    """Delete a run of this machine; one that it does not have, on the cluster."""
    if options.context is None and workspace.has_database():
        with workspace.database() as (dsn, _):
            if row := await find_here(dsn, options.run):
                return await _delete_here(dsn, row, sure=options.yes)
    there = cluster.plan_deletion(options.run, context=options.context)
    if not (options.yes or _confirm(there.question)):
        return 1
    print(there.carry_out())
    return 0


async def _delete_here(dsn: str, row: Row, *, sure: bool) -> int:
    async with RunLock(dsn, row["id"]), Database(dsn) as database:
        episodes, hints = await RunStore(database).count_rows(row["id"], row["key"])
        folders, stays = _folders(row)
        folder_names = ", ".join(f"the folder {folder}" for folder in folders) or "no folder"
        contents = f"{episodes:,} episodes, {hints:,} hints, {folder_names}"
        if not (sure or _confirm(f"delete run {row['key']} for good: {contents}")):
            return 1
        # the rows go last: a deletion that was interrupted can be repeated, and no later run finds what this one left
        for folder in folders:
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise RuntimeError(f"{folder} could not be deleted, and the run stays: {error}") from error
        await RunStore(database).delete(row["id"])
    print(f"run {row['key']} is deleted: {contents}{stays}")
    return 0


def _folders(row: Row) -> tuple[list[Path], str]:
    """Return a run's folders on this machine, and what stays elsewhere."""
    name, _, former = row["key"].partition("@")
    uri = str(lookup(row["document"], "spec.storage.uri") or "")
    stays = f"; its artifacts stay at {uri}/{name}" if uri.startswith("s3:") else ""
    folders = [] if former else [workspace.folder_of_key(name)]
    if uri.startswith("file:"):
        shared = Path(unquote(urlparse(uri).path)) / name
        folders += sorted(shared.glob(f"{Identity(str(row['uid']), '').key}*"))
    return [folder for folder in folders if folder.exists()], stays


def _confirm(question: str) -> bool:
    """Ask a person; nobody at the keyboard is a no."""
    if not sys.stdin.isatty():
        print(f"{question}? Add --yes to confirm; nothing is deleted.", file=sys.stderr)
        return False
    with contextlib.suppress(EOFError):
        if input(f"{question}? [y/N] ").strip().lower() in ("y", "yes"):
            return True
    print("nothing is deleted", file=sys.stderr)
    return False
