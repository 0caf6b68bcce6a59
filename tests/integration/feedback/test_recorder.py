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
from distillery.database import Database, DatabaseAway
from distillery.database.migrate import migrate
from distillery.database.runs import register
from distillery.database.sessions import Outcome, record
from distillery.feedback.record import NoRecord, read
from distillery.feedback.recorder import Recorder, Settings
from distillery.serving.process import free_port
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


async def test_what_lies_in_the_folder_is_recorded_and_the_folder_is_empty(
    database: Database, run_id: int, settings: Settings
):
    leave(settings.capture, "1", **exchange())
    leave(settings.capture, "2", success=False, reward=0.25, task="tidy up")
    (settings.capture / "3.part").write_text("not whole yet")
    recorder = Recorder(settings, database)
    await recorder.look()
    (row,) = await database.fetch("SELECT run_id, name, messages, answer, success, reward, task FROM session")
    assert row == {
        "run_id": run_id, "name": "s", "messages": MESSAGES, "answer": "look",
        "success": False, "reward": 0.25, "task": "tidy up",
    }  # fmt: skip
    assert [path.name for path in settings.capture.iterdir()] == ["3.part"]
    assert recorder.state()["failures"] == 1


async def test_what_is_no_record_is_dropped_and_counted_and_the_rest_is_recorded(
    database: Database, run_id: int, settings: Settings
):
    (settings.capture / "1.json").write_text("{")
    (settings.capture / "2.json").write_bytes(b"\xff\xfe")
    leave(settings.capture, "3", **exchange(messages=[1]))
    leave(settings.capture, "4", session="nul", **exchange(answer="a\0b\ud800c"))
    recorder = Recorder(settings, database)
    await recorder.look()
    assert await database.fetch("SELECT name, answer FROM session") == [{"name": "nul", "answer": "ab?c"}]
    assert recorder.state() == {"failures": 0, "waiting": 0, "dropped": 3, "problem": ""}


async def test_what_users_wrote_stands_in_no_log(
    database: Database, run_id: int, settings: Settings, caplog: pytest.LogCaptureFixture
):
    (settings.capture / "1.json").write_text('{"session": "my secret')
    leave(settings.capture, "2", success=False, reward="my secret")
    leave(settings.capture, "3", **exchange(answer="my secret"))
    with caplog.at_level(logging.DEBUG):
        await Recorder(settings, database).look()
    assert "1.json is dropped: NoRecord" in caplog.text
    assert "my secret" not in caplog.text


async def test_whatever_goes_wrong_the_recorder_goes_on(
    database: Database, run_id: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    """Its end would be the end of its pod's readiness."""
    recorder, looked = Recorder(settings, database), list[int]()

    async def look() -> None:
        looked.append(1)
        if len(looked) == 1:
            raise RuntimeError("nobody thought of it")

    monkeypatch.setattr(recorder, "look", look)
    monkeypatch.setattr("distillery.feedback.recorder._LOOK_SECONDS", 0.01)
    running = asyncio.create_task(recorder.run())
    async with asyncio.timeout(30):
        while len(looked) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert recorder.problem == ""
    running.cancel()


class LosesDatabase:
    """Looks as the recorder does, once; then as one whose database is gone."""

    def __init__(self, recorder: Recorder, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        self._recorder, self._look, self._error, self._looks = recorder, recorder.look, error, 0
        monkeypatch.setattr(recorder, "look", self)
        monkeypatch.setattr("distillery.feedback.recorder._LOOK_SECONDS", 0.01)

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


async def test_a_count_that_may_have_changed_meanwhile_is_not_told(
    database: Database, run_id: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    leave(settings.capture, "1", **exchange())
    leave(settings.capture, "2", success=False)
    recorder = Recorder(settings, database)
    await recorder.look()
    assert recorder.state()["failures"] == 1
    await LosesDatabase(recorder, DatabaseAway("gone"), monkeypatch).until("gone")
    assert recorder.state()["failures"] == 0
    await recorder.look()
    assert recorder.state()["failures"] == 1


@pytest.mark.parametrize(
    "error",
    [psycopg.ProgrammingError('missing "=" after "postgres//ann:hunter2@host"'), RuntimeError("ann wrote hunter2")],
)
async def test_what_errors_quote_is_neither_told_nor_logged(
    database: Database, run_id: int, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception,
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    recorder = Recorder(settings, database)
    await LosesDatabase(recorder, error, monkeypatch).until(type(error).__name__)
    assert type(error).__name__ in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_database_that_was_made_anew_is_arrived_at_anew(dsn: str, settings: Settings):
    async with Database(dsn) as database:
        await register(database, parse(document()))
        recorder = Recorder(settings, database)
        await recorder.look()
        migrate(dsn, "base")
        migrate(dsn)
        await database.execute("SELECT setval('run_id_seq', 99)")
        await register(database, parse(document()))
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
def test_a_record_is_read_strictly(wrong: dict[str, Any]):
    with pytest.raises(NoRecord):
        read(json.dumps({"session": "s", "alias": "a", "time": NOW, **exchange(), **wrong}))


async def test_old_and_too_many_sessions_go(database: Database, run_id: int, settings: Settings):
    old = datetime(2020, 1, 1, tzinfo=UTC)
    await record(database, run_id, [Outcome("old", "test", False, None, "", old)])
    for number in range(12):
        leave(settings.capture, str(number), **exchange(session=f"s{number}"))
    await Recorder(settings, database).look()
    rows = await database.fetch("SELECT name FROM session")
    assert len(rows) == 10
    assert {"session": "old"} not in rows


async def test_a_database_of_an_earlier_version_is_brought_up(dsn: str, settings: Settings):
    async with Database(dsn) as database:
        await register(database, parse(document()))
        migrate(dsn, "0001")
        leave(settings.capture, "1", **exchange())
        await Recorder(settings, database).look()
        assert len(await database.fetch("SELECT 1 FROM session")) == 1


class Process:
    """``python -m distillery.feedback.recorder``, told what the operator tells it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def start(self, dsn: str) -> asyncio.subprocess.Process:
        settings = self._settings
        told = {
            "DISTILLERY_DATABASE_URL": dsn, "DISTILLERY_RUN": settings.run,
            "DISTILLERY_CAPTURE_DIR": str(settings.capture),
            "DISTILLERY_RETENTION_DAYS": "30", "DISTILLERY_MAX_SESSIONS": str(SESSIONS),
            "DISTILLERY_RECORDER_PORT": str(settings.port),
        }  # fmt: skip
        command = (sys.executable, "-m", "distillery.feedback.recorder")
        return await asyncio.create_subprocess_exec(*command, env={**os.environ, **told})

    async def until(self, **wanted: Any) -> dict[str, Any]:
        """Its state, once it says what is wanted."""
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


async def test_without_the_database_it_waits_and_says_so_and_ends_when_told(settings: Settings):
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


async def test_a_connection_string_that_is_none_stands_in_no_log(settings: Settings, capfd: pytest.CaptureFixture[str]):
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


async def test_what_the_gateway_leaves_last_is_recorded_before_it_ends(
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


async def test_a_recorder_that_was_killed_loses_no_record_and_keeps_none_twice(
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
