"""A real Postgres with pgvector for all integration tests, and an empty schema for each."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, sql

from distillery.core.api import parse
from distillery.database import Database
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.migrate import migrate
from distillery.database.runs import RunStore
from tests.unit.documents import document


@pytest.fixture(scope="session")
def postgres() -> Generator[EmbeddedPostgres]:
    """Yield the embedded server, in a folder of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="distillery-test-") as folder,
        EmbeddedPostgres(Path(folder) / "pg") as server,
    ):
        yield server


@pytest.fixture(scope="module")
def folder() -> Generator[Path]:
    """Not one of pytest's: another pytest that starts closes those to the user as whom the embedded Postgres runs."""
    with tempfile.TemporaryDirectory(prefix="distillery-test-") as made:
        yield Path(made)


@pytest.fixture
def dsn(postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> Generator[str]:
    """Yield a new database with the schema in place."""
    name = f"test_{abs(hash(request.node.nodeid))}"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    dsn = conninfo.make_conninfo(postgres.dsn, dbname=name)
    migrate(dsn)
    yield dsn
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
async def database(dsn: str) -> AsyncGenerator[Database]:
    """Yield an open database."""
    async with Database(dsn, patience=60) as opened:
        yield opened


@pytest.fixture
async def run_id(database: Database) -> int:
    """Return a registered run."""
    return await RunStore(database).register(parse(document()))
