"""The recorder on a real Postgres: what the gateway leaves in its folder comes into the database, whatever happens."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from distillery.core.api import parse
from distillery.core.child_processes import free_port
from distillery.core.contracts.capture import CapturedOutcome, InvalidRecord
from distillery.database import Database, DatabaseAway
from distillery.database.migrate import migrate
from distillery.database.runs import RunStore
from distillery.database.sessions import SessionStore
from distillery.feedback.record import read
from distillery.feedback.recorder import Recorder, Settings
from tests.unit.documents import document

NOW = datetime.now(UTC).isoformat()
PATIENCE = 90.0
SESSIONS = 10  # as many as the recorder keeps


def leave(folder: Path, name: str, **document: Any) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"session": "s", "alias": "test", "time": NOW, **document}))


MESSAGES = [
    {"role": "user", "content": "A room."}, {"role": "assistant", "content": "look"},
    {"role": "user", "content": "Dark."},
]  # fmt: skip


def exchange(**more: Any) -> dict[str, Any]:
    return {"model": "a", "messages": MESSAGES, "answer": "look", **more}


@pytest.fixture
def settings(dsn: str, tmp_path: Path) -> Settings:
    (tmp_path / "capture").mkdir()
    return Settings(dsn, "default/test", tmp_path / "capture", 30, SESSIONS, free_port())


async def test_recorder_moves_the_files_of_the_folder_into_the_database(
    database: Database, run_id: int, settings: Settings
):
    leave(settings.capture, "1", **exchange())
    leave(settings.capture, "2", success=False, reward=0.25, task="tidy up")
    (settings.capture / "3.part").write_text("not whole yet")
    recorder = Recorder(settings, database)
    await recorder.poll()
    (row,) = await database.fetch("SELECT run_id, name, messages, answer, success, reward, task FROM session")
    assert row == {
        "run_id": run_id, "name": "s", "messages": MESSAGES, "answer": "look",
        "success": False, "reward": 0.25, "task": "tidy up",
    }  # fmt: skip
    assert [path.name for path in settings.capture.iterdir()] == ["3.part"]
    assert recorder.state()["failures"] == 1


async def test_recorder_drops_and_counts_files_that_are_no_records(database: Database, run_id: int, settings: Settings):
    (settings.capture / "1.json").write_text("{")
    (settings.capture / "2.json").write_bytes(b"\xff\xfe")
    leave(settings.capture, "3", **exchange(messages=[1]))
    leave(settings.capture, "4", session="nul", **exchange(answer="a\0b\ud800c"))
    recorder = Recorder(settings, database)
    await recorder.poll()
    assert await database.fetch("SELECT name, answer FROM session") == [{"name": "nul", "answer": "ab?c"}]
    assert recorder.state() == {"failures": 0, "waiting": 0, "dropped": 3, "problem": ""}


async def test_recorder_logs_no_text_of_users(
    database: Database, run_id: int, settings: Settings, caplog: pytest.LogCaptureFixture
):
    (settings.capture / "1.json").write_text('{"session": "my secret')
    leave(settings.capture, "2", success=False, reward="my secret")
    leave(settings.capture, "3", **exchange(answer="my secret"))
    with caplog.at_level(logging.DEBUG):
        await Recorder(settings, database).poll()
    assert "1.json is dropped: InvalidRecord" in caplog.text
    assert "my secret" not in caplog.text


async def test_recorder_continues_after_any_error(
    database: Database, run_id: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    """Its end would be the end of its pod's readiness."""
    recorder, looked = Recorder(settings, database), list[int]()

    async def look() -> None:
        looked.append(1)
        if len(looked) == 1:
            raise RuntimeError("nobody thought of it")

    monkeypatch.setattr(recorder, "poll", look)
    monkeypatch.setattr("distillery.feedback.recorder._POLL_SECONDS", 0.01)
    running = asyncio.create_task(recorder.run())
    async with asyncio.timeout(30):
        while len(looked) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert recorder.problem == ""
    running.cancel()


class LosesDatabase:
    """Looks as the recorder does, once; then as one whose database is gone."""

    def __init__(self, recorder: Recorder, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        self._recorder, self._look, self._error, self._looks = recorder, recorder.poll, error, 0
        monkeypatch.setattr(recorder, "poll", self)
        monkeypatch.setattr("distillery.feedback.recorder._POLL_SECONDS", 0.01)

    async def __call__(self) -> None:
        self._looks += 1
        if self._looks == 2:
            raise self._error
        await self._look()

    async def until(self, problem: str) -> None:
        running = asyncio.create_task(self._recorder.run())
        async with asyncio.timeout(PATIENCE):
            while self._recorder.problem != problem:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        running.cancel()


async def test_recorder_reports_no_failures_when_the_count_may_be_stale(
    database: Database, run_id: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    leave(settings.capture, "1", **exchange())
    leave(settings.capture, "2", success=False)
    recorder = Recorder(settings, database)
    await recorder.poll()
    assert recorder.state()["failures"] == 1
    await LosesDatabase(recorder, DatabaseAway("gone"), monkeypatch).until("gone")
    assert recorder.state()["failures"] == 0
    await recorder.poll()
    assert recorder.state()["failures"] == 1


@pytest.mark.parametrize(
    "error",
    [psycopg.ProgrammingError('missing "=" after "postgres//ann:hunter2@host"'), RuntimeError("ann wrote hunter2")],
)
async def test_recorder_neither_reports_nor_logs_what_errors_quote(
    database: Database, run_id: int, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception,
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    recorder = Recorder(settings, database)
    await LosesDatabase(recorder, error, monkeypatch).until(type(error).__name__)
    assert type(error).__name__ in caplog.text
    assert "hunter2" not in caplog.text


async def test_recorder_finds_its_run_again_when_the_database_is_new(dsn: str, settings: Settings):
    async with Database(dsn) as database:
        await RunStore(database).register(parse(document()))
        recorder = Recorder(settings, database)
        await recorder.poll()
        migrate(dsn, "base")
        migrate(dsn)
        await database.execute("SELECT setval('run_id_seq', 99)")
        await RunStore(database).register(parse(document()))
        leave(settings.capture, "1", **exchange())
        running = asyncio.create_task(recorder.run())
        async with asyncio.timeout(PATIENCE):
            while not await database.fetch("SELECT 1 FROM session"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        running.cancel()


@pytest.mark.parametrize(
    "wrong",
    [
        {"session": ""}, {"session": "x" * 200}, {"session": 7}, {"time": "yesterday"}, {"time": "2026-11-26T00:00:00"},
        {"success": "yes"}, {"success": True, "reward": 2},
    ],
)  # fmt: skip
def test_record_is_rejected_when_a_field_is_wrong(wrong: dict[str, Any]):
    with pytest.raises(InvalidRecord):
        read(json.dumps({"session": "s", "alias": "a", "time": NOW, **exchange(), **wrong}))


async def test_sessions_are_deleted_when_old_or_too_many(database: Database, run_id: int, settings: Settings):
    old = datetime(2020, 1, 1, tzinfo=UTC)
    await SessionStore(database, run_id).record([CapturedOutcome("old", "test", False, None, "", old)])
    for number in range(12):
        leave(settings.capture, str(number), **exchange(session=f"s{number}"))
    await Recorder(settings, database).poll()
    rows = await database.fetch("SELECT name FROM session")
    assert len(rows) == 10
    assert {"session": "old"} not in rows


async def test_recorder_migrates_a_database_of_an_earlier_version(dsn: str, settings: Settings):
    async with Database(dsn) as database:
        await RunStore(database).register(parse(document()))
        migrate(dsn, "0001")
        leave(settings.capture, "1", **exchange())
        await Recorder(settings, database).poll()
        assert len(await database.fetch("SELECT 1 FROM session")) == 1


class Process:
    """``python -m distillery.feedback.recorder``, with the variables that the operator sets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def start(self, dsn: str) -> asyncio.subprocess.Process:
        settings = self._settings
        variables = {
            "DISTILLERY_DATABASE_URL": dsn, "DISTILLERY_RUN": settings.run,
            "DISTILLERY_CAPTURE_DIR": str(settings.capture),
            "DISTILLERY_RETENTION_DAYS": "30", "DISTILLERY_MAX_SESSIONS": str(SESSIONS),
            "DISTILLERY_RECORDER_PORT": str(settings.port),
        }  # fmt: skip
        command = (sys.executable, "-m", "distillery.feedback.recorder")
        return await asyncio.create_subprocess_exec(*command, env={**os.environ, **variables})

    async def until(self, **wanted: Any) -> dict[str, Any]:
        """Return its state, once it says what is wanted."""
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{self._settings.port}/state") as answer:
                        state = await answer.json()
                    if wanted.items() <= state.items():
                        return state
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)


async def test_recorder_waits_and_reports_when_the_database_is_away(settings: Settings):
    leave(settings.capture, "1", **exchange())
    process = Process(settings)
    running = await process.start("host=127.0.0.1 port=1 connect_timeout=1 dbname=none")
    state = await process.until(waiting=1)
    while not state["problem"]:
        state = await process.until(waiting=1)
        await asyncio.sleep(0.1)
    assert state["problem"] == "OperationalError"
    running.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(running.wait(), PATIENCE) == 0
    assert len(list(settings.capture.iterdir())) == 1


async def test_recorder_logs_no_connection_string_when_it_is_invalid(
    settings: Settings, capfd: pytest.CaptureFixture[str]
):
    process = Process(settings)
    running = await process.start("postgres//ann:hunter2@host/db")
    await process.until(
        problem="the database's connection string is not one: write postgresql://user@host:5432/name; "
        "correct DISTILLERY_DATABASE_URL (on a cluster: the Secret that spec.database.dsnSecretRef names)"
    )
    await asyncio.sleep(2.0)  # the pool's own words come of themselves
    running.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(running.wait(), PATIENCE) == 0
    assert "hunter2" not in capfd.readouterr().err


async def test_recorder_records_the_last_files_before_it_ends(
    database: Database, run_id: int, settings: Settings, dsn: str
):
    process = Process(settings)
    running = await process.start(dsn)
    leave(settings.capture, "1", session="a", **exchange())
    leave(settings.capture, "2", session="a", success=False)
    await process.until(failures=1, waiting=0)
    for number in range(5):
        leave(settings.capture, f"3{number}", session=f"last{number}", **exchange())
    running.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(running.wait(), PATIENCE) == 0
    assert list(settings.capture.iterdir()) == []
    assert len(await database.fetch("SELECT 1 FROM session")) == 6


async def test_recorder_keeps_each_record_once_when_it_is_killed(
    database: Database, run_id: int, settings: Settings, dsn: str
):
    first = Process(settings)
    running = await first.start(dsn)
    await first.until(waiting=0)
    for number in range(SESSIONS):
        leave(settings.capture, f"1{number}", session=f"a{number}", **exchange())
    async with asyncio.timeout(PATIENCE):
        while True:
            if await database.fetch("SELECT 1 FROM session"):
                break
            await asyncio.sleep(0)
    running.kill()
    await running.wait()
    for number in range(SESSIONS):
        leave(settings.capture, f"2{number}", session=f"a{number}", success=False)
    second = Process(settings)
    running = await second.start(dsn)
    await second.until(failures=SESSIONS, waiting=0)
    running.kill()
    await running.wait()
    (row,) = await database.fetch("SELECT count(*) AS n, count(DISTINCT name) AS sessions FROM session")
    assert row == {"n": SESSIONS, "sessions": SESSIONS}
