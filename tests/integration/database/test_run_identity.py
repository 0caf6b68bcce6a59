"""Who a run is, in the database and in what its stages publish."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

from distillery.core.api import DistillationRun, canonical, parse
from distillery.core.api.learned import digest_of_learned
from distillery.core.artifacts import Identity, store_at
from distillery.core.contracts.stage_config import StageConfig
from distillery.core.contracts.stage_result import write_failure
from distillery.core.planner import Kind, Stage, StageId, StagePhase, StageResult, StageState
from distillery.core.planner.graph import PREPARE
from distillery.database import Database
from distillery.database.migrate import migrate
from distillery.database.runs import RunStore
from distillery.database.stages import StageStore
from distillery.local import executor as local_executor
from distillery.local.executor import LocalExecutor
from distillery.local.workspace import identity_of
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.runner import execute
from tests.unit.documents import document

RUN = parse(document())
ALONE = parse({**document(), "metadata": {"name": "alone"}})
FIRST, SECOND = str(uuid.uuid4()), str(uuid.uuid4())


async def test_run_keeps_the_uid_that_it_was_registered_with(database: Database):
    given = await RunStore(database).register(RUN, uid=FIRST)
    assert await RunStore(database).read_uid(await RunStore(database).register(RUN)) == FIRST
    alone = await RunStore(database).register(ALONE)
    assert await RunStore(database).read_uid(alone) == await RunStore(database).read_uid(
        await RunStore(database).register(ALONE)
    )
    assert await RunStore(database).read_uid(given) != await RunStore(database).read_uid(alone)


async def test_register_adds_the_first_uid_to_a_row_without_one(dsn: str):
    migrate(dsn, "0003")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO run (key, document) VALUES (%s, %s)", [RUN.key, json.dumps(canonical(RUN))])
    migrate(dsn)
    async with Database(dsn) as database:
        filled = await RunStore(database).read_uid(await RunStore(database).register(RUN))
        assert await RunStore(database).read_uid(await RunStore(database).register(RUN)) == filled
        assert await RunStore(database).read_uid(await RunStore(database).register(RUN, uid=FIRST)) == FIRST
        assert await RunStore(database).read_uid(await RunStore(database).register(RUN)) == FIRST


async def promoted(run: DistillationRun, uid: str, folder: Path, verdict: str) -> dict[str, Any]:
    """The result of a stage as its process publishes and records it."""

    async def main(context: StageContext) -> tuple[dict[str, Any], Path]:
        draft = context.store.draft(context.config.stage)
        (draft / "report").write_text(verdict)
        return {"metric": verdict}, draft

    config = StageConfig.of(
        run,
        Stage(StageId(1, Kind.PROMOTE)),
        identity=Identity(uid, digest_of_learned(run)),
        persist_status=True,
        server=None,
        store=(folder / "shared").as_uri(),
        cache=folder,
        work=folder,
        outcome=folder / "outcome",
    )
    await execute(main, config)
    return json.loads((folder / "outcome").read_text())["result"]


async def test_local_run_keeps_the_digest_that_an_earlier_version_computed(database: Database):
    run_id = await RunStore(database).register(RUN)
    uid = await RunStore(database).read_uid(run_id)
    assert identity_of(RUN, uid, []) == Identity(uid, digest_of_learned(RUN))
    earlier = Identity(uid, "0123456789abcdef")
    await StageStore(database, run_id).begin(PREPARE, 1)
    await StageStore(database, run_id).end(
        PREPARE, StageState(StagePhase.SUCCEEDED, result=StageResult.read({"run": str(earlier)}))
    )
    assert identity_of(RUN, uid, await StageStore(database, run_id).read()) == Identity(uid, digest_of_learned(RUN))
    await StageStore(database, run_id).begin(StageId(1, Kind.ROLLOUT), 1)
    assert identity_of(RUN, uid, await StageStore(database, run_id).read()) == earlier


async def test_recreated_run_does_not_use_the_results_of_its_predecessor(
    database: Database, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DISTILLERY_DATABASE_URL", dsn)
    assert (await promoted(RUN, FIRST, tmp_path, "run 1: +40 points"))["metric"] == "run 1: +40 points"
    await database.execute("DELETE FROM run")  # with its namespace, and its quick-start database
    again = parse(document(training={"seed": 7}))
    assert (await promoted(again, SECOND, tmp_path, "run 2: -3 points"))["metric"] == "run 2: -3 points"
    (row,) = await StageStore(database, await RunStore(database).register(again, uid=SECOND)).read()
    assert row["result"]["run"] == str(Identity(SECOND, digest_of_learned(again)))


async def test_stage_leaves_no_draft_when_it_fails(
    database: Database, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DISTILLERY_DATABASE_URL", dsn)

    async def main(context: StageContext) -> tuple[dict[str, Any], Path]:
        (context.store.draft(context.config.stage) / "half").write_bytes(b"w" * 1000)
        raise OSError(errno.ENOSPC, "No space left on device")

    identity = Identity(FIRST, digest_of_learned(RUN))
    config = StageConfig.of(
        RUN, Stage(StageId(1, Kind.TRAIN, "distilled")), identity=identity, server=None, store=tmp_path.as_uri(),
        cache=tmp_path, work=tmp_path, outcome=tmp_path / "outcome",
    )  # fmt: skip
    with pytest.raises(OSError) as raised:
        await execute(main, config)
    assert raised.value.errno == errno.ENOSPC
    assert list((tmp_path / identity.key).iterdir()) == []
    assert store_at(tmp_path.as_uri(), identity, cache=tmp_path).sweep(0) == []


@pytest.fixture
def executor(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalExecutor:
    """Of a run whose stages are not carried out; which were started stands in the attribute ``started``."""
    monkeypatch.setenv("DISTILLERY_HOME", str(tmp_path))
    monkeypatch.setattr(local_executor, "_STORE_POLL_SECONDS", 0.05)
    made, started = LocalExecutor(RUN, dsn), list[str]()

    async def perform(database: Database, stage: Stage, run_id: int, attempt: int) -> StageState:
        started.append(str(stage.id))
        return StageState(StagePhase.FAILED, attempt, permanent=True, message="enough")

    monkeypatch.setattr(made, "_perform", perform)
    made.started = started  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize(("training", "first"), [({}, "r1-rollout"), ({"seed": 7}, "prepare")])
async def test_prepare_starts_again_when_its_result_has_another_identity(
    database: Database, executor: LocalExecutor, training: dict[str, Any], first: str
):
    run_id = await RunStore(database).register(RUN, uid=FIRST)
    prepared_for = parse(document(training=training))
    result = {"run": str(Identity(FIRST, digest_of_learned(prepared_for)))}
    await StageStore(database, run_id).begin(PREPARE, 1)
    await StageStore(database, run_id).end(PREPARE, StageState(StagePhase.SUCCEEDED, result=StageResult.read(result)))
    await executor.execute()
    assert executor.started[0] == first  # type: ignore[attr-defined]


async def test_stage_succeeds_when_one_worker_finished_and_another_was_killed(
    executor: LocalExecutor, database: Database
):
    await executor.execute()
    store, sid = executor._store, StageId(1, Kind.ROLLOUT)
    store.publish(str(sid), store.draft(str(sid)), {"stage": str(sid)})
    said = [executor._folder / "none.json", executor._folder / "none.json"]
    state = await executor._find_state(sid, 1, [-signal.SIGKILL, 0], said)
    assert (state.phase, state.result.document["stage"]) == ("succeeded", str(sid))


async def test_stage_fails_with_the_permanent_failure_when_workers_disagree(executor: LocalExecutor, tmp_path: Path):
    said = [tmp_path / "outcome-0.json", tmp_path / "outcome-1.json"]
    write_failure(said[0], "the server was away", permanent=False)
    write_failure(said[1], "no such secret", permanent=True)
    state = await executor._find_state(StageId(1, Kind.ROLLOUT), 1, [1, 78], said)
    assert (state.phase, state.permanent, state.message) == ("failed", True, "no such secret")


async def test_executor_waits_for_a_result_when_the_store_is_away(executor: LocalExecutor, database: Database):
    await executor.execute()
    store = executor._store
    store.publish("r1-hints", store.draft("r1-hints"), {"hints": 3})
    manifest = next(executor._folder.glob("*/r1-hints/result.json"))
    aside = manifest.rename(manifest.with_suffix(".aside"))
    manifest.mkdir()  # reading it fails, and not because it is absent
    waiting = asyncio.create_task(executor._read_manifest("r1-hints"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    manifest.rmdir()
    aside.rename(manifest)
    assert (await waiting)["hints"] == 3
