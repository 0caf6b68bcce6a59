"""What waiting does not cure ends at once and says what to fix; what it cures is waited for. On a real Postgres."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, errors, sql

from distillery.database import Database, DatabaseAway, DatabaseRefused
from distillery.database.connection import is_transient
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.migrate import migrate

# How a server says that it has another version of an extension, or none.
CONTROL = "comment = 'an old one'\ndefault_version = '0.7.4'\nrelocatable = true\n"


@pytest.fixture
def password(postgres: EmbeddedPostgres) -> Generator[str]:
    """The connection string of a role that has to show a password, ``right``."""
    rules = Path(postgres._server.pgdata) / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all guarded scram-sha-256\n{before}")
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        connection.execute("SELECT pg_reload_conf()")
        yield conninfo.make_conninfo(postgres.dsn, user="guarded")
        rules.write_text(before)
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP ROLE guarded")


async def refused(dsn: str) -> str:
    async with Database(dsn, patience=1) as database:
        with pytest.raises(DatabaseRefused) as caught:
            await database.fetch("SELECT 1")
    with pytest.raises(DatabaseRefused) as at_once:
        migrate(dsn)
    assert str(at_once.value) == str(caught.value)
    return str(caught.value)


async def test_connect_names_the_variable_when_the_password_is_wrong(password: str):
    async with Database(conninfo.make_conninfo(password, password="right")) as database:
        assert await database.fetch("SELECT 1 AS one") == [{"one": 1}]
    for given in ("wrong", ""):
        problem = await refused(conninfo.make_conninfo(password, password=given))
        assert problem.startswith("the database refuses the connection: ")
        assert "password" in problem
        assert "correct DISTILLERY_DATABASE_URL" in problem
        assert "wrong" not in problem


async def test_connect_names_the_variable_when_the_database_does_not_exist(postgres: EmbeddedPostgres):
    problem = await refused(conninfo.make_conninfo(postgres.dsn, dbname="nope"))
    assert 'database "nope" does not exist; correct DISTILLERY_DATABASE_URL' in problem


async def test_connect_shows_no_password_when_the_connection_string_is_invalid():
    problem = await refused("guarded:hunter2@host")
    assert "connection string" in problem
    assert "hunter2" not in problem


async def test_transaction_fails_at_once_when_a_row_is_too_large(database: Database):
    key = "".join(chr(0x4E00 + number) for number in range(3_000))  # nine kilobytes that do not compress
    async with asyncio.timeout(30):
        with pytest.raises(errors.ProgramLimitExceeded, match="index row"):
            await database.execute("INSERT INTO run (key, document) VALUES (%s, '{}')", key)


DISK_FULL = """
    CREATE FUNCTION fill() RETURNS integer LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('tries') < 3 THEN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END IF;
        RETURN 7;
    END $$
"""


async def test_transaction_waits_when_the_disk_is_full(database: Database, dsn: str):
    await database.execute("CREATE SEQUENCE tries")
    await database.execute(DISK_FULL)
    assert await database.fetch("SELECT fill() AS number") == [{"number": 7}]
    await database.execute("ALTER SEQUENCE tries RESTART")
    async with Database(dsn, patience=0) as hasty:
        with pytest.raises(DatabaseAway, match="could not extend file"):
            await hasty.fetch("SELECT fill() AS number")


@pytest.mark.parametrize(
    ("state", "passes"),
    [
        ("08006", True), ("25006", True), ("40001", True), ("40P01", True), ("53100", True), ("53300", True),
        ("55P03", True), ("57P01", True), ("57P03", True),
        ("28P01", False), ("28000", False), ("3D000", False), ("42501", False), ("54000", False), ("57014", False),
        ("57P04", False), ("58030", False), ("22P02", False), ("53400", False),
    ],
)  # fmt: skip
def test_is_transient_is_true_only_for_errors_that_pass(state: str, passes: bool):
    assert is_transient(errors.lookup(state)("x")) is passes


@pytest.mark.parametrize(
    ("version", "problem"), [("", "has no pgvector: install 0.8"), ("0.7.4", "has pgvector 0.7.4")]
)
def test_migrate_refuses_when_pgvector_is_not_new_enough(
    version: str, problem: str, postgres: EmbeddedPostgres, folder: Path
):
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        if version:
            (folder / "extension").mkdir(exist_ok=True)
            (folder / "extension" / "vector.control").write_text(CONTROL)
            (folder / "extension" / "vector--0.7.4.sql").write_text("")
        folder.chmod(0o755)
        connection.execute("DROP DATABASE IF EXISTS old_pgvector WITH (FORCE)")
        connection.execute("CREATE DATABASE old_pgvector")
        setting = sql.SQL("ALTER DATABASE old_pgvector SET extension_control_path = {}")
        connection.execute(setting.format(str(folder)))
        dsn = conninfo.make_conninfo(postgres.dsn, dbname="old_pgvector")
        try:
            with pytest.raises(DatabaseRefused, match=rf"{problem}.*; correct DISTILLERY_DATABASE_URL"):
                migrate(dsn)
            assert psycopg.connect(dsn).execute("SELECT to_regclass('run')").fetchone() == (None,)
        finally:
            connection.execute("DROP DATABASE old_pgvector WITH (FORCE)")


def test_migration_job_names_the_fix_without_a_traceback_when_it_fails(postgres: EmbeddedPostgres):
    dsn = conninfo.make_conninfo(postgres.dsn, dbname="nope")
    for value, code, problem in ((dsn, 78, "correct DISTILLERY_DATABASE_URL"), ("host=/nowhere", 1, "is away")):
        done = subprocess.run(
            [sys.executable, "-m", "distillery.database.migrate"],
            env={**os.environ, "DISTILLERY_DATABASE_URL": value}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code
        assert problem in done.stderr
        assert "Traceback" not in done.stderr
