"""Schema, run lock, and a server that goes away, on a real Postgres."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess

import psycopg
import pytest
from psycopg import sql

from distillery.database import Database, DatabaseAway
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.migrate import migrate
from distillery.database.runs import (
    RunHeld,
    RunLock,
    UnknownRun,
    begin_stage,
    end_stage,
    find,
    observe,
    report_progress,
)
from distillery.planning import Kind, StageId, StageState


def tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {row[0] for row in rows}


def test_the_schema_goes_up_and_down_and_up_again(dsn: str):
    assert {"run", "stage", "episode", "turn", "hint", "hint_source", "extraction"} <= tables(dsn)
    migrate(dsn, "base")
    assert tables(dsn) <= {"alembic_version"}
    migrate(dsn)
    migrate(dsn)
    assert "episode" in tables(dsn)


def test_migrate_converts_the_embeddings_that_are_there(dsn: str):
    migrate(dsn, "0003")
    vector = str([0.5] * 384)
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO embedding VALUES (%s, %s::halfvec)", ("put a mug in Köln", vector))
    migrate(dsn)
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT sha256, embedding::text FROM embedding").fetchall()
    assert [(digest, json.loads(text)) for digest, text in rows] == [
        (hashlib.sha256("put a mug in Köln".encode()).digest(), json.loads(vector))
    ]


def test_migrate_leaves_a_schema_alone_when_it_is_newer(dsn: str):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        migrate(dsn)
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


async def test_many_processes_may_migrate_at_once(dsn: str):
    migrate(dsn, "base")
    await asyncio.gather(*(asyncio.to_thread(migrate, dsn) for _ in range(4)))
    assert "episode" in tables(dsn)


async def test_an_unknown_run_is_answered_with_the_known_ones(database: Database, run_id: int):
    assert (await find(database, "test"))["id"] == run_id
    with pytest.raises(UnknownRun, match="known: default/test"):
        await find(database, "nope")


async def test_one_process_drives_a_run_and_the_second_is_told_who(dsn: str, run_id: int):
    async with RunLock(dsn, run_id):
        with pytest.raises(RunHeld, match=r"run default/test is driven by process \d+ on .+ since 20"):
            async with RunLock(dsn, run_id):
                pass
    async with RunLock(dsn, run_id):
        pass


async def test_the_lock_of_a_process_that_died_is_free(dsn: str, run_id: int):
    async with RunLock(dsn, run_id) as lock:
        assert lock._connection is not None
        await lock._connection.close()
        async with RunLock(dsn, run_id):
            with pytest.raises(RunHeld):
                await lock.ensure()


async def test_the_run_lock_outlives_a_limit_on_idle_transactions(dsn: str, run_id: int):
    with psycopg.connect(dsn, autocommit=True) as connection:
        for limit in ("idle_in_transaction_session_timeout", "transaction_timeout"):
            name = sql.Identifier(connection.info.dbname)
            connection.execute(sql.SQL("ALTER DATABASE {} SET {} = '200ms'").format(name, sql.SQL(limit)))
        async with RunLock(dsn, run_id):
            await asyncio.sleep(0.6)
            with pytest.raises(RunHeld):
                async with RunLock(dsn, run_id):
                    pass
            (held,) = connection.execute(  # it holds back no vacuum, and a pooler leaves it its server
                """SELECT state, backend_xid, backend_xmin FROM pg_stat_activity
                   WHERE datname = current_database() AND pid IN (SELECT pid FROM pg_locks WHERE objsubid = 2)"""
            ).fetchall()
            assert held == ("idle in transaction", None, None)


async def test_stages_are_observed_as_they_were_recorded(database: Database, run_id: int):
    sid = StageId(1, Kind.TRAIN, "distilled")
    await begin_stage(database, run_id, sid, 1)
    await report_progress(database, run_id, sid, done=3, total=9, unit="steps")
    assert (await observe(database, run_id))[sid].phase == "running"
    await end_stage(database, run_id, sid, StageState("failed", message="boom"))
    await begin_stage(database, run_id, sid, 2)
    await end_stage(database, run_id, sid, StageState("succeeded", 2, result={"arms": {"b": 1, "a": 2}}))
    state = (await observe(database, run_id))[sid]
    assert (state.phase, state.attempts, state.message) == ("succeeded", 2, "")
    assert list((state.result or {})["arms"]) == ["b", "a"]


async def test_work_waits_for_a_server_that_is_away(postgres: EmbeddedPostgres, database: Database, run_id: int):
    async def work() -> list[dict[str, object]]:
        return await database.fetch("SELECT key FROM run")

    assert await work()
    _stop(postgres)
    waiting = asyncio.create_task(work())
    await asyncio.sleep(3)
    assert not waiting.done()
    await asyncio.to_thread(postgres.ensure_running)
    assert await asyncio.wait_for(waiting, 60) == [{"key": "default/test"}]


async def test_patience_ends():
    async with Database("host=/nowhere", patience=1.0) as database:
        with pytest.raises(DatabaseAway, match="away for 1 s"):
            await database.fetch("SELECT 1")


def _stop(postgres: EmbeddedPostgres) -> None:
    server = postgres._server
    command = [str(server.bin_path / "pg_ctl"), "-D", str(server.pgdata), "-m", "immediate", "stop"]
    subprocess.run(command, check=True, user=server.system_user)


async def test_every_reference_has_an_index_so_that_deletions_read_no_whole_table(database: Database):
    bare = await database.fetch(
        """SELECT conrelid::regclass::text AS "table", conkey FROM pg_constraint
           WHERE contype = 'f' AND NOT EXISTS (
               SELECT FROM pg_index WHERE indrelid = conrelid AND indkey[0] = conkey[1])"""
    )
    assert bare == []
