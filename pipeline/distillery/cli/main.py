"""``distillery``: run the loop on this machine, look at its runs, and change those on a cluster.

This module imports what every command needs, and no more: ``distillery --help`` answers at once.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence

from distillery.cli.errors import EXIT_INTERRUPTED, complain, describe_interruption, explain, ignore_closed_pipe
from distillery.cli.parser import build_parser

Command = Callable[[argparse.Namespace], Awaitable[int]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``distillery``."""
    grammar = build_parser()
    options = grammar.parse_args(arguments)
    if options.command == "status" and options.watch and not options.run:
        grammar.error("status --watch needs the name of a run")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        code = asyncio.run(_perform(options))
        sys.stdout.flush()
    except BrokenPipeError:
        code = ignore_closed_pipe()
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = complain(describe_interruption(options), EXIT_INTERRUPTED)
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        code = complain(*explained)
    sys.exit(code)


async def _perform(options: argparse.Namespace) -> int:
    return await load_command(options.command)(options)


def load_command(name: str) -> Command:
    """Return the function of a command. Its module is imported here, for some take a second."""
    match name:
        case "run" | "retry" | "delete":
            from distillery.cli.commands import runs

            return {"run": runs.run, "retry": runs.retry, "delete": runs.delete_run}[name]
        case "init":
            from distillery.cli.commands.init import init

            return init
        case "validate":
            from distillery.cli.commands.preflight import validate

            return validate
        case "status" | "list":
            from distillery.cli.commands import status

            return status.show_status if name == "status" else status.show_list
        case "logs":
            from distillery.cli.commands.logs import show_logs

            return show_logs
        case "compare":
            from distillery.cli.commands.compare import show_comparison

            return show_comparison
        case "report":
            from distillery.cli.commands.report import show_report

            return show_report
        case "hints":
            from distillery.cli.commands.hints import show_hints

            return show_hints
        case "serve":
            from distillery.cli.commands.serve import serve

            return serve
        case _:
            from distillery.cli.commands.cluster import request

            return request
