"""``distillery``: run the loop on this machine, and look at what it found."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from distillery.api import DistillationRun, InvalidRun, load, parse
from distillery.artifacts import ArtifactError
from distillery.cli import cluster, preflight, runs
from distillery.cli.parser import parser
from distillery.database import Database, DatabaseAway, DatabaseRefused, Row
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.live import gathered
from distillery.database.runs import RunHeld, UnknownRun, find, is_driven, observe, stage_rows, states_of
from distillery.executors import home
from distillery.models import ModelNotFound
from distillery.planning import plan

EXIT_FAILED, EXIT_HELD, EXIT_CONFIGURATION = 1, 75, 78

_PIPED_WIDTH = 1000  # a file has no edge: tables there are as wide as what they hold


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command ``distillery``."""
    grammar = parser()
    options = grammar.parse_args(arguments)
    if options.command == "status" and options.watch and not options.run:
        grammar.error("status --watch needs the name of a run")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        code = asyncio.run(_COMMANDS[options.command](options))
    except (InvalidRun, home.SetupError, DatabaseRefused) as error:
        code = _complain(str(error), EXIT_CONFIGURATION)
    except ArtifactError as error:
        where = f"artifacts are kept in DISTILLERY_HOME ({home.home()}) or spec.storage.uri: put back what is missing"
        code = _complain(f"{error}; {where}", EXIT_CONFIGURATION)
    except RunHeld as error:
        code = _complain(f"{error}; wait for it, or stop it first", EXIT_HELD)
    except (UnknownRun, DatabaseAway, ModelNotFound, RuntimeError) as error:
        code = _complain(str(error), EXIT_FAILED)
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = _complain(f"interrupted{_how_to_resume(options)}", 130)
    sys.exit(code)


def _complain(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _how_to_resume(options: argparse.Namespace) -> str:
    match options.command:
        case "run":
            return f"; to resume: distillery run {options.file}"
        case "retry":
            return f"; to resume: distillery retry {options.run}"
        case _:
            return ""


async def _run(options: argparse.Namespace) -> int:
    run = load(options.file)
    console = Console()
    _stop_on_signals(console)
    await preflight.check_here(run, str(options.file), endpoints=False)  # stage prepare asks them
    with home.database() as (dsn, embedded):
        return await _execute(run, dsn, embedded, console, options)


async def _retry(options: argparse.Namespace) -> int:
    if options.context is None and home.has_database():
        console = Console()
        _stop_on_signals(console)
        with home.database() as (dsn, embedded):
            if row := await runs.find_here(dsn, options.run):
                return await _execute(parse(row["document"]), dsn, embedded, console, options)
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
    from distillery.executors.display import Display
    from distillery.executors.local import LocalExecutor

    with Display(console) as display:
        end = await LocalExecutor(run, dsn, embedded, show=display).execute()
    if end.phase == "Failed":
        permanent = any(s.permanent for s in (await _states(dsn, run)).values())
        message = f"\n{end.message}\nFix the cause{_how_to_resume(options)}"
        return _complain(message, EXIT_CONFIGURATION if permanent else EXIT_FAILED)
    await _print_report(console, dsn, run)
    if end.phase == "Waiting":
        print(f"{end.message} {await _gathered(dsn, run)} are there: run it again once enough have gathered.")
    return 0


async def _gathered(dsn: str, run: DistillationRun) -> int:
    async with Database(dsn) as database:
        return await gathered(database, (await find(database, run.key))["id"])


async def _states(dsn: str, run: DistillationRun) -> dict[Any, Any]:
    async with Database(dsn) as database:
        return await observe(database, (await find(database, run.key))["id"])


async def _validate(options: argparse.Namespace) -> int:
    run = load(options.file)
    trial = None
    if not options.offline:
        trial = await preflight.check_here(run, str(options.file), endpoints=True, play=options.play)
    print(preflight.summary(run, str(options.file)))
    for line in preflight.remarks(run):
        print(line)
    if trial:
        print(f"\n{preflight.shown(trial)}")
    return 0


async def _status(options: argparse.Namespace) -> int:
    from distillery.executors.display import table
    from distillery.executors.watch import describe

    console = Console()
    with home.database() as (dsn, _):
        async with Database(dsn) as database:
            if options.watch:
                return await _watch(console, database, await find(database, options.run))
            if options.run:
                rows = [await find(database, options.run)]
            else:
                rows = await database.fetch("SELECT * FROM run ORDER BY id")
            for row in rows:
                stages = await stage_rows(database, row["id"])
                failures = await gathered(database, row["id"])
                run = parse(row["document"])
                current = plan(run.spec, states_of(stages), failures=failures)
                phase, message = describe(run, current, driven=await is_driven(database, row["id"]))
                if options.run:
                    console.print(table(stages, title=row["key"], message=f"{phase}. {message}"))
                else:
                    console.print(f"{row['key']}  {phase}  {message}", highlight=False)
            if not rows:
                console.print("no runs yet; start one with: distillery run FILE")
    return 0


async def _watch(console: Console, database: Database, row: Row) -> int:
    from distillery.executors.display import Display
    from distillery.executors.watch import describe, watch

    with Display(console) as display:
        end = await watch(database, row, display)
    phase, message = describe(parse(row["document"]), end, driven=False)
    console.print(f"{row['key']}  {phase}. {message}", highlight=False, soft_wrap=True)
    return EXIT_FAILED if end.phase == "Failed" else 0


async def _report(options: argparse.Namespace) -> int:
    from distillery.report.data import NoReport

    with home.database() as (dsn, _):
        async with Database(dsn) as database:
            run = parse((await find(database, options.run))["document"])
        try:
            form = "json" if options.json else "markdown" if options.markdown else "table"
            folder = await _print_report(Console(), dsn, run, form=form)
        except NoReport as error:
            return _complain(str(error), EXIT_FAILED)
    page = folder / "report.html"
    if options.open and not webbrowser.open(page.as_uri()):
        return _complain(f"no browser could be started; open {page}", EXIT_FAILED)
    return 0


async def _print_report(console: Console, dsn: str, run: DistillationRun, *, form: str = "table") -> Path:
    """Write the newest report beside the run's logs, print it, and return its folder."""
    from distillery.report.data import build_report
    from distillery.report.page import write
    from distillery.report.table import COLUMNS, markdown, rows

    async with Database(dsn) as database:
        row = await find(database, run.key)
        store = home.store_of(run, str(row["uid"]), await stage_rows(database, row["id"]))
        report = await build_report(database, row["id"], run, store, {})
    folder = home.folder_of(run) / "report"
    folder.mkdir(parents=True, exist_ok=True)
    write(report, folder)
    if form != "table":
        print(json.dumps(report, indent=1) if form == "json" else markdown(report))
        return folder
    if not console.is_terminal:
        console = Console(width=120)
    grid = Table(*COLUMNS)
    for column in grid.columns[1:]:
        column.justify = "right"
    for row in rows(report):
        grid.add_row(*row)
    where = report["environment"]
    console.print()
    console.print(grid)
    console.print(f"tasks: {where['source']}, split {where['split']}", highlight=False)
    verdict = report["gate"]
    console.print(f"[bold]{verdict['verdict']}[/bold]. {verdict['reason']}", highlight=False)
    last = report["rounds"][-1]
    if last["student"] and not last["promoted"]:
        console.print(
            f"try its student all the same: distillery serve {run.key} --round {last['round']}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    return folder


async def _hints(options: argparse.Namespace) -> int:
    from distillery.hints.bank import HintBank
    from distillery.planning.stages import teacher_plays_alike
    from distillery.report.numbers import percent

    with home.database() as (dsn, _):
        async with Database(dsn) as database:
            run = parse((await find(database, options.run))["document"])
            bank = HintBank(database, bank=run.key, environment=run.spec.environment.name, agent=run.spec.agent.name)
            rows = await bank.statistics(plays_alike=teacher_plays_alike(run.spec))
    grid = Table(
        Column("hint", min_width=24, overflow="fold"),
        "for",
        "mentions",
        "uses",
        "with %",
        "no hints %",
        "others %",
        "from",
    )
    for row in rows[: options.limit]:
        grid.add_row(
            row["text"],
            row["category"] or "all",
            str(row["mentions"]),
            str(row["uses"]),
            percent(row["success_with"]),
            percent(row["success_without_hints"]),
            percent(row["success_without"]),
            f"round {row['round']}, {row['extractor']}{' ' + row['model'] if row['model'] else ''}",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    console.print(grid)
    console.print(f"{min(options.limit, len(rows))} of {len(rows)} hints", highlight=False)
    console.print(
        "success of the teacher's episodes with the hint, of the same tasks without hints, of its episodes of "
        "the same categories with other hints"
    )
    return 0


async def _serve(options: argparse.Namespace) -> int:
    from distillery.executors.servers import model_to_serve, served_to_users
    from distillery.serving.vllm import ServerFailed, VllmServer

    with home.database() as (dsn, _):
        async with Database(dsn) as database:
            row = await find(database, options.run)
            run = parse(row["document"])
            stages = await stage_rows(database, row["id"])
    chosen = model_to_serve(run, states_of(stages), options.round)
    store = home.store_of(run, str(row["uid"]), stages)
    model = served_to_users(chosen, run, store)
    task = asyncio.current_task()
    assert task is not None
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, task.cancel)
    server = VllmServer(
        model,
        home.folder_of(run) / "logs" / "serve.log",
        port=options.port,
        private=False,
        arguments=run.spec.model_server.arguments,
    )
    what = f"the student of {chosen.trained_by}" if chosen.trained_by else "the base model"
    print(f"starting vLLM with {what}; its log is {server.log}", flush=True)
    try:
        await server.start()
        print(
            f"serving {model.name} at {server.base_url}; try\n\n"
            f"  curl {server.base_url}/chat/completions -H 'Content-Type: application/json' \\\n"
            f'    -d \'{{"model": "{model.name}", "messages": [{{"role": "user", "content": "..."}}]}}\'\n',
            flush=True,
        )
        code = await server.wait()
        return _complain(f"vLLM ended with code {code}; see {server.log}", EXIT_FAILED)
    except ServerFailed as error:
        return _complain(str(error), EXIT_FAILED)
    except asyncio.CancelledError:  # told to stop, as a server is
        return 0
    finally:
        await server.stop()


async def _promote(options: argparse.Namespace) -> int:
    return _on_cluster(options, lambda: cluster.promote(options.run, options.round, context=options.context))


async def _rollback(options: argparse.Namespace) -> int:
    return _on_cluster(options, lambda: cluster.rollback(options.run, context=options.context))


async def _pause(options: argparse.Namespace) -> int:
    paused, stages = options.command == "pause", options.stages
    return _on_cluster(
        options, lambda: cluster.pause(options.run, paused=paused, stages=stages, context=options.context)
    )


async def _abort(options: argparse.Namespace) -> int:
    return _on_cluster(options, lambda: cluster.abort(options.run, context=options.context))


def _on_cluster(options: argparse.Namespace, change: Callable[[], str]) -> int:
    try:
        print(change())
    except RuntimeError as error:
        namespace, _, name = options.run.rpartition("/")
        if not (home.home() / "runs" / (namespace or "default") / name).is_dir():
            raise
        return _complain(
            f"{error}\n{options.run} is a run of this machine, and {options.command} is for runs on a cluster; "
            f"distillery serve {options.run} serves its promoted student here",
            EXIT_FAILED,
        )
    return 0


_COMMANDS = {
    "run": _run,
    "retry": _retry,
    "delete": runs.delete_run,
    "validate": _validate,
    "status": _status,
    "report": _report,
    "hints": _hints,
    "serve": _serve,
    "promote": _promote,
    "rollback": _rollback,
    "abort": _abort,
    "pause": _pause,
    "resume": _pause,
}
