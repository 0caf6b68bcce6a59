"""Where runs without a cluster keep their things."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from distillery.api import DistillationRun
from distillery.artifacts import Store, store_at
from distillery.database import dsn_from_environment
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.migrate import migrate


def home() -> Path:
    """``$DISTILLERY_HOME``; by default ``/var/lib/distillery`` for root, else a folder of the user's data."""
    if chosen := os.environ.get("DISTILLERY_HOME"):
        return Path(chosen).resolve()
    if os.geteuid() == 0:
        return Path("/var/lib/distillery")
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "distillery"


def folder_of(run: DistillationRun) -> Path:
    """The run's own folder on this machine: logs, reports, and unless they are kept elsewhere its artifacts."""
    return home() / "runs" / run.metadata.namespace / run.metadata.name


def store_uri(run: DistillationRun) -> str:
    """Where the run's artifacts are."""
    if run.spec.storage.uri:
        return f"{run.spec.storage.uri.rstrip('/')}/{run.key}"
    return folder_of(run).as_uri()


def store_of(run: DistillationRun) -> Store:
    """The run's artifacts."""
    return store_at(store_uri(run), cache=folder_of(run) / "cache", endpoint_url=run.spec.storage.endpoint_url)


@contextlib.contextmanager
def database() -> Generator[tuple[str, EmbeddedPostgres | None]]:
    """The database's connection string, schema in place, and the embedded server if it is one.

    ``$DISTILLERY_DATABASE`` names a server; else the embedded one is started.
    """
    if dsn := dsn_from_environment():
        migrate(dsn)
        yield dsn, None
        return
    with EmbeddedPostgres(home() / "postgres") as server:
        migrate(server.dsn)
        yield server.dsn, server
