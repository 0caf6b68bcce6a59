"""Schema, run lock, and a server that goes away, on a real Postgres."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess

import psycopg
import pytest
from psycopg import sql

from distillery.core.planner import Kind, StageId, StagePhase, StageResult, StageState
from distillery.database import Database, DatabaseAway
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.migrate import migrate
from distillery.database.runs import RunLock, RunLocked, RunStore, UnknownRun
from distillery.database.stages import StageStore


def tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {row[0] for row in rows}


def test_migrate_recreates_the_schema_after_a_downgrade(dsn: str):
    known = {"run", "stage", "episode", "turn", "hint", "hint_source", "extraction", "session", "serving_history"}
    assert known <= tables(dsn)
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


OLD_ROWS = """
INSERT INTO run (key, document, holder) VALUES
    ('default/driven', '{}', 'process 7 on node on-1 since 2026-11-30T12:00:00+00:00'), ('default/idle', '{}', NULL);
INSERT INTO stage (run_id, name, phase)
    SELECT run.id, name, 'succeeded'
    FROM run, unnest(ARRAY['prepare', 'r1-evaluate-base', 'r12-evaluate-base', 'r1-evaluate-sft']) AS name
    WHERE key = 'default/driven';
INSERT INTO episode (run_id, round, arm, task_id, split, category, goal, seed, phase, stop, calls, invalid, opening,
                     head, spans)
    SELECT run.id, 1, arm, 't', 'valid', 'c', 'g', 0, 'finished', stop, 9, 2, 'a room', '[{"role": "user"}]',
           '{"hints": [0, 1, 2]}'
    FROM run, (VALUES ('base', 'calls'), ('rag', 'steps'), ('own', NULL)) AS played (arm, stop)
    WHERE key = 'default/driven';
INSERT INTO hint (bank, environment, agent, text, subject, mentions, round, extractor, embedding)
    SELECT 'default/driven', 'e', 'a', text, 'place of mug', 3, 1, 'miner', array_fill(0.1, ARRAY[384])::halfvec
    FROM unnest(ARRAY['kept', 'dropped']) AS text;
UPDATE hint SET twin_of = kept.id FROM hint AS kept WHERE hint.text = 'dropped' AND kept.text = 'kept';
INSERT INTO live_session (run_id, session, alias, messages, started_at, updated_at, told_at)
    SELECT id, 's-1', 'bot', '[{"role": "assistant", "content": "go"}]', '2026-11-30', '2026-11-30', '2026-11-30'
    FROM run WHERE key = 'default/driven';
INSERT INTO served (run_id, since, student, round) SELECT id, '2026-11-30', 'base', 0 FROM run;
"""

OLD_QUERIES = (
    "SELECT key, holder FROM run ORDER BY key",
    "SELECT name FROM stage ORDER BY name",
    "SELECT arm, stop, calls, invalid, opening, head, spans FROM episode ORDER BY arm",
    """SELECT h.text, h.subject, h.mentions, h.extractor, o.text FROM hint h LEFT JOIN hint o ON o.id = h.twin_of
       ORDER BY h.text""",
    "SELECT session, told_at::date::text, replied FROM live_session",
    "SELECT student, round FROM served",
    # the schema itself
    """SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
       WHERE table_schema = 'public' ORDER BY 1, 2""",
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
       WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'f', 'u') ORDER BY 1, 2""",
)


def test_rows_keep_their_values_when_migration_0009_renames_up_and_down(dsn: str):
    migrate(dsn, "0008")
    with psycopg.connect(dsn, autocommit=True) as connection:

        def read(query: str) -> list[tuple[object, ...]]:
            return connection.execute(query.encode()).fetchall()

        connection.execute(OLD_ROWS)
        before = [read(query) for query in OLD_QUERIES]

        migrate(dsn, "0009")
        assert read("SELECT key, lock_holder LIKE 'process 7 on %', lock_host FROM run ORDER BY key") == [
            ("default/driven", True, "node on-1"),
            ("default/idle", None, None),
        ]
        assert [name for (name,) in read("SELECT name FROM stage ORDER BY name")] == [
            "prepare", "r1-evaluate-baseline", "r1-evaluate-sft", "r12-evaluate-baseline",
        ]  # fmt: skip
        rest = (9, 2, "a room", [{"role": "user"}], {"hints": [0, 1, 2]})
        query = """SELECT arm, stop_reason, turns, invalid_actions, initial_observation, prompt_prefix, prompt_spans
                   FROM episode ORDER BY arm"""
        assert read(query) == [("baseline", "turns", *rest), ("own", None, *rest), ("rag", "steps", *rest)]
        hint = ("place of mug", 3, "rules")
        query = """SELECT h.text, h.topic, h.support, h.extractor, o.text
                   FROM hint h LEFT JOIN hint o ON o.id = h.duplicate_of ORDER BY h.text"""
        assert read(query) == [("dropped", *hint, "kept"), ("kept", *hint, None)]
        query = "SELECT name, outcome_reported_at::date::text, has_agent_reply FROM session"
        assert read(query) == [("s-1", "2026-11-30", True)]
        assert read("SELECT student, round FROM serving_history") == [("base", 0)] * 2
        old = "live_session|served_|t[w]in"
        assert read(f"SELECT relname FROM pg_class WHERE relname ~ '{old}'") == []
        assert read(f"SELECT conname FROM pg_constraint WHERE contype IN ('p', 'f') AND conname ~ '{old}'") == []

        migrate(dsn, "0008")
        assert [read(query) for query in OLD_QUERIES] == before


async def test_migrate_succeeds_when_many_processes_migrate_together(dsn: str):
    migrate(dsn, "base")
    await asyncio.gather(*(asyncio.to_thread(migrate, dsn) for _ in range(4)))
    assert "episode" in tables(dsn)


async def test_find_lists_the_existing_runs_when_the_name_is_unknown(database: Database, run_id: int):
    assert (await RunStore(database).find("test"))["id"] == run_id
    with pytest.raises(UnknownRun, match="known: default/test"):
        await RunStore(database).find("nope")


async def test_run_lock_names_its_holder_when_another_process_has_it(dsn: str, run_id: int):
    async with RunLock(dsn, run_id):
        with pytest.raises(RunLocked, match=rf"default/test.* {os.getpid()} on .+ since 20"):
            async with RunLock(dsn, run_id):
                pass
    async with RunLock(dsn, run_id):
        pass


async def test_run_lock_is_free_when_its_holder_died(dsn: str, run_id: int):
    async with RunLock(dsn, run_id) as lock:
        assert lock._connection is not None
        await lock._connection.close()
        async with RunLock(dsn, run_id):
            with pytest.raises(RunLocked):
                await lock.ensure()


async def test_run_lock_is_held_when_idle_transactions_are_limited(dsn: str, run_id: int):
    with psycopg.connect(dsn, autocommit=True) as connection:
        for limit in ("idle_in_transaction_session_timeout", "transaction_timeout"):
            name = sql.Identifier(connection.info.dbname)
            connection.execute(sql.SQL("ALTER DATABASE {} SET {} = '200ms'").format(name, sql.SQL(limit)))
        async with RunLock(dsn, run_id):
            await asyncio.sleep(0.6)
            with pytest.raises(RunLocked):
                async with RunLock(dsn, run_id):
                    pass
            (held,) = connection.execute(  # it holds back no vacuum, and a pooler leaves it its server
                """SELECT state, backend_xid, backend_xmin FROM pg_stat_activity
                   WHERE datname = current_database() AND pid IN (SELECT pid FROM pg_locks WHERE objsubid = 2)"""
            ).fetchall()
            assert held == ("idle in transaction", None, None)


async def test_stages_are_observed_as_they_were_recorded(database: Database, run_id: int):
    sid = StageId(1, Kind.TRAIN, "distilled")
    await StageStore(database, run_id).begin(sid, 1)
    await StageStore(database, run_id).report_progress(sid, done=3, total=9, unit="steps")
    assert (await StageStore(database, run_id).read_states())[sid].phase == "running"
    await StageStore(database, run_id).end(sid, StageState(StagePhase.FAILED, message="boom"))
    await StageStore(database, run_id).begin(sid, 2)
    await StageStore(database, run_id).end(
        sid, StageState(StagePhase.SUCCEEDED, 2, result=StageResult.read({"arms": {"b": 1, "a": 2}}))
    )
    state = (await StageStore(database, run_id).read_states())[sid]
    assert (state.phase, state.attempts, state.message) == ("succeeded", 2, "")
    assert list(state.result.document["arms"]) == ["b", "a"]


async def test_query_waits_when_the_server_is_away(postgres: EmbeddedPostgres, database: Database, run_id: int):
    async def work() -> list[dict[str, object]]:
        return await database.fetch("SELECT key FROM run")

    assert await work()
    _stop(postgres)
    waiting = asyncio.create_task(work())
    await asyncio.sleep(3)
    assert not waiting.done()
    await asyncio.to_thread(postgres.ensure_running)
    assert await asyncio.wait_for(waiting, 60) == [{"key": "default/test"}]


async def test_query_fails_when_patience_runs_out():
    async with Database("host=/nowhere", patience=1.0) as database:
        with pytest.raises(DatabaseAway, match="1 s"):
            await database.fetch("SELECT 1")


def _stop(postgres: EmbeddedPostgres) -> None:
    server = postgres._server
    command = [str(server.bin_path / "pg_ctl"), "-D", str(server.pgdata), "-m", "immediate", "stop"]
    subprocess.run(command, check=True, user=server.system_user)


async def test_every_reference_has_an_index(database: Database):
    bare = await database.fetch(
        """SELECT conrelid::regclass::text AS "table", conkey FROM pg_constraint
           WHERE contype = 'f' AND NOT EXISTS (
               SELECT FROM pg_index WHERE indrelid = conrelid AND indkey[0] = conkey[1])"""
    )
    assert bare == []
