"""Messages and exit codes of errors: a user never sees a traceback of a cause that a user can fix."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import suppress

EXIT_FAILED, EXIT_HELD, EXIT_CONFIGURATION, EXIT_INTERRUPTED = 1, 75, 78, 130


def complain(message: str, code: int) -> int:
    """Print a message for a person, and return the exit code that goes with it."""
    print(message, file=sys.stderr)
    return code


def describe_resumption(options: argparse.Namespace) -> str:
    """Return the end of a message: the command that resumes a run; empty for other commands."""
    match options.command:
        case "run":
            changes = "".join(f" --set {shlex.quote(str(change))}" for change in options.set)
            return f"; to resume: distillery run {shlex.quote(str(options.file))}{changes}"
        case "retry":
            return f"; to resume: distillery retry {options.run}"
        case _:
            return ""


def build_scope(run: str, context: str | None) -> list[str]:
    """Return the options of kubectl that name a run's namespace and its cluster."""
    namespace, _, _ = run.rpartition("/")
    return [*([f"--namespace={namespace}"] if namespace else []), *([f"--context={context}"] if context else [])]


def build_describe_command(run: str, context: str | None) -> str:
    """Return the command that shows the state of a run on a cluster."""
    return shlex.join(["kubectl", "describe", "drun", run.rpartition("/")[2], *build_scope(run, context)])


def describe_interruption(options: argparse.Namespace) -> str:
    """Return the message after Ctrl-C: what became of the run."""
    if options.command == "status":
        return "stopped watching; this changes nothing for the run"
    if options.command in ("promote", "rollback", "abort", "pause", "resume"):
        describe = build_describe_command(options.run, options.context)
        return f"interrupted; the request may not be set: {describe} shows it"
    return f"interrupted{describe_resumption(options)}"


def explain(error: Exception) -> tuple[str, int] | None:
    """Return the message and the exit code of an error with a cause outside this program; None for a defect in it."""
    # these take half a second to import, and most commands end well
    from distillery.core.api import InvalidRun
    from distillery.core.artifacts import ArtifactError
    from distillery.core.model_files import ModelNotFound
    from distillery.database import DatabaseAway, DatabaseError, DatabaseRefused
    from distillery.database.migrate import MigrationError
    from distillery.database.runs import RunLocked, UnknownRun
    from distillery.local.workspace import SetupError, home

    match error:
        case InvalidRun() | SetupError() | DatabaseRefused():
            return str(error), EXIT_CONFIGURATION
        case ArtifactError():
            where = f"artifacts are kept in DISTILLERY_HOME ({home()}) or spec.storage.uri: put back what is missing"
            return f"{error}; {where}", EXIT_CONFIGURATION
        case RunLocked():
            return f"{error}; wait for it, or stop it first", EXIT_HELD
        case NotImplementedError() | RecursionError():  # RuntimeErrors that no message explains
            return None
        case UnknownRun() | DatabaseAway() | ModelNotFound() | RuntimeError():
            return str(error), EXIT_FAILED
        case DatabaseError() | MigrationError():
            text = " ".join(str(getattr(error, "orig", error)).split())
            return f"the database failed: {text}; check DISTILLERY_DATABASE_URL and the server's log", EXIT_FAILED
        case OSError():
            return _explain_os_error(error), EXIT_FAILED
        case _:
            return None


def _explain_os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; check the disk and its permissions, or set DISTILLERY_HOME elsewhere"


def ignore_closed_pipe() -> int:
    """Return the exit code after the reader of a pipe, such as ``head``, left; and keep Python from complaining."""
    with suppress(OSError):
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115 - it stays open until the process ends
    return EXIT_FAILED
