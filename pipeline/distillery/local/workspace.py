"""The folders and the database of runs without a cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable
from pathlib import Path

from distillery.core.api import DistillationRun
from distillery.core.api.learned import digest_of_learned
from distillery.core.artifacts import Identity, Store, store_at
from distillery.core.planner.graph import PREPARE
from distillery.database import ConnectionFailed, Row, dsn_from_environment
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.migrate import migrate
from distillery.database.stages import read_results


class SetupError(Exception):
    """A variable of the environment names what can't be used; the message names the variable and the reason."""


def home() -> Path:
    """Return ``$DISTILLERY_HOME``; by default ``/var/lib/distillery`` for root, else a folder of the user's data."""
    if chosen := os.environ.get("DISTILLERY_HOME"):
        return Path(chosen).resolve()
    if os.geteuid() == 0:
        return Path("/var/lib/distillery")
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "distillery"


def folder_of(run: DistillationRun) -> Path:
    """Return the folder of the run's name on this machine: logs, reports, and by default its artifacts."""
    return folder_of_key(run.key)


def folder_of_key(key: str) -> Path:
    """Return the folder of a run's name by ``namespace/name``."""
    return home() / "runs" / key


def has_database() -> bool:
    """Return whether there is a database to read, without making one."""
    return dsn_from_environment() is not None or (home() / "postgres").exists()


def identity_of(run: DistillationRun, uid: str, stages: Iterable[Row]) -> Identity:
    """Return the run's identity.

    Once a stage other than ``prepare`` has started, what is learned can't change. The identity is then the one that the
    result of ``prepare`` names: another version may have computed the digest otherwise.

    Args:
        run: its resource.
        uid: the database's.
        stages: its rows of the table ``stage``.
    """
    rows = {row["name"]: row for row in stages}
    named = ((rows.pop(str(PREPARE), None) or {}).get("result") or {}).get("run")
    recorded = Identity.parse(named) if named and rows else None
    return recorded if recorded and recorded.uid == uid else Identity(uid, digest_of_learned(run))


def store_uri(run: DistillationRun) -> str:
    """Return the part of the artifacts' URI that all runs of this name share."""
    if run.spec.storage.uri:
        return f"{run.spec.storage.uri.rstrip('/')}/{run.key}"
    return folder_of(run).as_uri()


def store_of(run: DistillationRun, uid: str, stages: Iterable[Row]) -> Store:
    """Return the store of the run's artifacts.

    Args:
        run: its resource.
        uid: the database's.
        stages: its rows of the table ``stage``.
    """
    stages = list(stages)
    return store_at(
        store_uri(run),
        identity_of(run, uid, stages),
        cache=folder_of(run) / "cache",
        endpoint_url=run.spec.storage.endpoint_url,
        recorded=read_results(stages),
    )


@contextlib.contextmanager
def database() -> Generator[tuple[str, EmbeddedPostgres | None]]:
    """Yield the database's connection string, schema in place, and the embedded server if it is one.

    ``$DISTILLERY_DATABASE_URL`` names a server; else the embedded one is started.

    Raises:
        SetupError: the folder or the server can't be used.
        DatabaseRefused: the server does not let us in, or lacks what is needed.
    """
    try:
        dsn = dsn_from_environment()
    except OSError as error:
        raise SetupError(f"DISTILLERY_DATABASE_URL_FILE: {error}") from error
    if dsn:
        try:
            migrate(dsn)
        except ConnectionFailed as error:
            raise SetupError(f"DISTILLERY_DATABASE_URL: {' '.join(str(error).split())}") from error
        yield dsn, None
        return
    _make_home()
    with EmbeddedPostgres(home() / "postgres") as server:
        migrate(server.dsn)
        yield server.dsn, server


def _make_home() -> None:
    """Make the folder of runs. Raises :class:`SetupError`."""
    folder = home()
    variable = "DISTILLERY_HOME" if "DISTILLERY_HOME" in os.environ else "the folder of runs (set DISTILLERY_HOME)"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SetupError(f"{variable}: {error.filename} is a file; name a folder") from error
    except OSError as error:
        raise SetupError(f"{variable}: {folder} can't be made: {error.strerror}; name another folder") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SetupError(f"{variable}: {folder} can't be written to by this user; name another folder")
