"""Where runs without a cluster keep their things."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from distillery.api import DistillationRun
from distillery.artifacts import Store
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.migrate import migrate


def home() -> Path:
    """``$DISTILLERY_HOME``; by default ``/var/lib/distillery`` for root, else a folder of the user's data."""
    if chosen := os.environ.get("DISTILLERY_HOME"):
        return Path(chosen).resolve()
    if os.geteuid() == 0:
        return Path("/var/lib/distillery")
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "distillery"


def store_of(run: DistillationRun) -> Store:
    """The run's artifacts."""
    if run.spec.storage.uri:
        return Store.at(f"{run.spec.storage.uri.rstrip('/')}/{run.key}")
    return Store(home() / "runs" / run.metadata.namespace / run.metadata.name)


@contextlib.contextmanager
def database() -> Generator[tuple[str, EmbeddedPostgres | None]]:
    """The database's connection string, schema in place, and the embedded server if it is one.

    ``$DISTILLERY_DATABASE`` names a server; else the embedded one is started.
    """
    if dsn := os.environ.get("DISTILLERY_DATABASE"):
        migrate(dsn)
        yield dsn, None
        return
    with EmbeddedPostgres(home() / "postgres") as server:
        migrate(server.dsn)
        yield server.dsn, server
