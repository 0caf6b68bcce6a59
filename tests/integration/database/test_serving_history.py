"""The serving history in a real Postgres, as the operator's Job stores it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from distillery.core.api import parse
from distillery.database import Database
from distillery.database.migrate import migrate
from distillery.database.runs import RunStore
from distillery_operator.manifests import jobs
from distillery_operator.model.names import RunRef
from distillery_operator.settings import Settings
from tests.unit.documents import document


def entry(number: int) -> dict[str, Any]:
    time = f"2026-11-{number:02}T12:00:00Z"
    return {"student": f"s{number}", "round": number, "reason": f"Because\0 of {number}.", "time": time}


async def keep(dsn: str, *numbers: int) -> tuple[int | None, str]:
    """Run the operator's Job for a history, and return its exit code and errors; a pod has the dsn in a file."""
    job = jobs.history_job(RunRef(parse(document()), "uid"), [entry(n) for n in numbers], Settings(namespace="system"))
    (worker,) = job["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable["value"] for variable in worker["env"]}
    del variables["DISTILLERY_DATABASE_URL_FILE"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *worker["command"][1:],
        env={**os.environ, **variables, "DISTILLERY_DATABASE_URL": dsn},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    return process.returncode, errors.decode()


async def test_job_adds_to_the_history_when_the_status_has_newer_entries(dsn: str, database: Database, run_id: int):
    for numbers in ((2, 1), (3, 2)):
        code, errors = await keep(dsn, *numbers)
        assert code == 0, errors
    rows = await database.fetch("SELECT run_id, student, round, reason FROM serving_history ORDER BY since")
    assert rows == [{"run_id": run_id, "student": f"s{n}", "round": n, "reason": f"Because of {n}."} for n in (1, 2, 3)]


async def test_job_migrates_when_the_database_is_of_an_earlier_version(dsn: str):
    async with Database(dsn) as database:
        await RunStore(database).register(parse(document()))
        migrate(dsn, "0001")
        assert (await keep(dsn, 1))[0] == 0
        assert len(await database.fetch("SELECT 1 FROM serving_history")) == 1


async def test_job_fails_with_a_message_when_the_run_is_unknown(dsn: str, database: Database):
    code, errors = await keep(dsn, 1)
    assert code == 1
    assert "there is no run default/test" in errors
