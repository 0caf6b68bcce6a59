"""What may change of a run that is recorded, and what is forgotten when it starts again, on a real Postgres."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Json

from distillery.agents import PromptPrefix
from distillery.core.api import DistillationRun, InvalidRun, parse
from distillery.core.planner import StageId, StagePhase, StageResult, StageState
from distillery.core.planner.graph import PREPARE
from distillery.database import Database
from distillery.database.episode_queue import EpisodeQueue, EpisodeRequest, Worker
from distillery.database.runs import RunLock, RunLocked, RunStore
from distillery.database.stages import StageStore
from tests.fakes.agents import episode, task, turn
from tests.unit.documents import document

ROLLOUT, HINTS = StageId.parse("r1-rollout"), StageId.parse("r1-hints")
SPEC = parse(document()).spec


async def stored(database: Database) -> dict[str, Any]:
    return (await RunStore(database).find("test"))["document"]["spec"]


async def test_register_refuses_another_seed_when_rollout_began(database: Database, run_id: int):
    assert await RunStore(database).register(parse(document())) == run_id
    await StageStore(database, run_id).begin(ROLLOUT, 1)
    with pytest.raises(
        InvalidRun,
        match=r"(?s)run default/test .*spec\.rounds\.maxRounds: 3: .* 1 .*"
        r"distillery delete default/test.*metadata\.name",
    ):
        await RunStore(database).register(parse(document(rounds={"maxRounds": 3})))
    assert (await stored(database))["rounds"]["maxRounds"] == 1


async def test_register_stores_the_document_when_no_learned_field_changes(database: Database, run_id: int):
    await StageStore(database, run_id).begin(PREPARE, 1)
    await StageStore(database, run_id).end(PREPARE, StageState(StagePhase.SUCCEEDED))
    await StageStore(database, run_id).begin(ROLLOUT, 1)
    changed = {
        "rollout": {"concurrency": 7},
        "serving": {"pinnedRound": 1},
        "podTemplate": {"nodeSelector": {"pool": "gpu"}},
    }
    assert await RunStore(database).register(parse(document(**changed))) == run_id
    spec = await stored(database)
    assert (spec["rollout"]["concurrency"], spec["serving"]["pinnedRound"]) == (7, 1)
    assert spec["podTemplate"]["nodeSelector"] == {"pool": "gpu"}
    assert set(await StageStore(database, run_id).read_states()) == {PREPARE, ROLLOUT}


async def test_register_deletes_prepare_when_no_other_stage_began(database: Database, run_id: int):
    await StageStore(database, run_id).begin(PREPARE, 1)
    await StageStore(database, run_id).end(PREPARE, StageState(StagePhase.SUCCEEDED))
    assert await RunStore(database).register(parse(document(rounds={"maxRounds": 3}))) == run_id
    assert (await stored(database))["rounds"]["maxRounds"] == 3
    assert await StageStore(database, run_id).read_states() == {}


async def test_register_keeps_prepare_when_no_learned_field_changes(database: Database, run_id: int):
    await StageStore(database, run_id).begin(PREPARE, 1)
    await StageStore(database, run_id).end(PREPARE, StageState(StagePhase.SUCCEEDED))
    await RunStore(database).register(parse(document(suspend=True)))
    assert set(await StageStore(database, run_id).read_states()) == {PREPARE}


async def test_register_lets_the_held_out_tasks_become_more_and_never_fewer(database: Database, run_id: int):
    def wanting(number: int) -> DistillationRun:
        return parse(document(environment={"tasks": {"train": 2, "evaluate": number}}))

    await RunStore(database).register(wanting(100))
    await StageStore(database, run_id).begin(ROLLOUT, 1)
    await RunStore(database).register(wanting(200))
    with pytest.raises(InvalidRun, match=r"tasks\.evaluate: 100: .* 200 .* can only grow"):
        await RunStore(database).register(wanting(100))
    # a worker that was started before is no user who takes tasks away
    uid = await RunStore(database).read_uid(run_id)
    assert await RunStore(database).register(wanting(100), uid=uid) == run_id
    assert (await stored(database))["environment"]["tasks"]["evaluate"] == 200


async def test_stage_keeps_its_result_when_the_next_attempt_fails(database: Database, run_id: int):
    await StageStore(database, run_id).begin(PREPARE, 1)
    await StageStore(database, run_id).end(
        PREPARE, StageState(StagePhase.SUCCEEDED, result=StageResult.read({"heldOutTasks": 2}))
    )
    await StageStore(database, run_id).begin(PREPARE, 1)
    await StageStore(database, run_id).end(PREPARE, StageState(StagePhase.FAILED, message="out of memory"))
    assert (await StageStore(database, run_id).read_states())[PREPARE].result.held_out_tasks == 2


async def store(database: Database, run_id: int, change: dict[str, Any]) -> None:
    """Have another version's document stored."""
    old = (await RunStore(database).find("test"))["document"]
    old["spec"] |= change
    await database.execute("UPDATE run SET document = %s WHERE id = %s", Json(old), run_id)


async def test_register_explains_when_the_stored_document_is_unreadable(database: Database, run_id: int):
    await StageStore(database, run_id).begin(ROLLOUT, 1)
    await store(database, run_id, {"curriculum": {"rate": 3}})
    with pytest.raises(InvalidRun, match=r"spec\.curriculum: .*version of Distillery does not accept: delete the run"):
        await RunStore(database).register(parse(document()))


async def test_register_accepts_when_the_stored_document_lacks_a_field(database: Database, run_id: int):
    await StageStore(database, run_id).begin(ROLLOUT, 1)
    rollout = (await stored(database))["rollout"]
    del rollout["stepTimeoutSeconds"], rollout["temperature"]
    await store(database, run_id, {"rollout": rollout})
    assert await RunStore(database).register(parse(document())) == run_id
    assert (await stored(database))["rollout"]["temperature"] == 0.0


RELEASED = sorted((Path(__file__).parents[2] / "unit" / "released").glob("*.json"))


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
async def test_register_accepts_when_an_earlier_version_stored_the_document(
    database: Database, run_id: int, path: Path
):
    await StageStore(database, run_id).begin(ROLLOUT, 1)
    await database.execute("UPDATE run SET document = %s WHERE id = %s", Json(json.loads(path.read_text())), run_id)
    assert await RunStore(database).register(parse(document())) == run_id
    assert set(await StageStore(database, run_id).read_states()) == {ROLLOUT}


async def test_register_accepts_an_older_document_when_a_newer_version_stored_it(database: Database, run_id: int):
    await StageStore(database, run_id).begin(ROLLOUT, 1)
    uid = await RunStore(database).read_uid(run_id)
    await store(database, run_id, {"curriculum": {"rate": 3}})
    assert await RunStore(database).register(parse(document()), uid=uid) == run_id
    with pytest.raises(InvalidRun, match=r"spec\.training\.seed: 7"):
        await RunStore(database).register(parse(document(training={"seed": 7})), uid=uid)


async def test_forgive_drops_failed_stages_and_keeps_others(database: Database, run_id: int):
    for sid, state in (
        (PREPARE, StageState(StagePhase.SUCCEEDED)),
        (ROLLOUT, StageState(StagePhase.FAILED, 4, permanent=True, message="no such model")),
    ):
        await StageStore(database, run_id).begin(sid, state.attempts)
        await StageStore(database, run_id).end(sid, state)
    await StageStore(database, run_id).forget_failures(SPEC)
    assert set(await StageStore(database, run_id).read_states()) == {PREPARE}


async def fail_rollout(database: Database, run_id: int) -> EpisodeQueue:
    """Play four episodes: a success, one that broke, one that was refused, one in progress; then the stage fails."""
    queue = EpisodeQueue(database, run_id, round=1, arms=["own"], worker=Worker("w", 60))
    await StageStore(database, run_id).begin(ROLLOUT, 1)
    await queue.enqueue([EpisodeRequest(task(number), "own") for number in range(4)])
    won, broke, refused, _ = await queue.lease(4)
    played = episode(
        [turn("go", "You went.")], prefix=PromptPrefix(()), initial_observation="hello", of=won.task, arm="own"
    )
    assert await queue.finish(won, played)
    assert await queue.finish(refused, replace(played, task=refused.task, success=False, stop="refused"))
    await queue.retry_later(broke, "the server is away", max_attempts=1)
    assert await queue.counts() == (3, 4)
    await StageStore(database, run_id).end(ROLLOUT, StageState(StagePhase.FAILED, message="all episodes broke"))
    return queue


async def test_forgive_replays_episodes_when_their_stage_failed(database: Database, run_id: int):
    queue = await fail_rollout(database, run_id)
    await StageStore(database, run_id).forget_failures(SPEC)
    assert await queue.counts() == (1, 4)
    again = await queue.lease(9)
    assert [lease.number for lease in again] == [1, 1, 1]
    assert await database.fetch("SELECT count(*) AS n FROM turn") == [{"n": 1}]


async def test_forgive_keeps_broken_episodes_when_their_stage_succeeded(database: Database, run_id: int):
    queue = await fail_rollout(database, run_id)
    await StageStore(database, run_id).end(ROLLOUT, StageState(StagePhase.SUCCEEDED))
    await StageStore(database, run_id).forget_failures(SPEC)
    assert await queue.counts() == (3, 4)


async def test_forgive_asks_the_extractor_again_when_hints_failed(database: Database, run_id: int):
    queue = await fail_rollout(database, run_id)
    assert await queue.counts() == (3, 4)
    await StageStore(database, run_id).end(ROLLOUT, StageState(StagePhase.SUCCEEDED))
    for attempt, problem in ((1, "not JSON"), (2, "")):
        await database.execute(
            "INSERT INTO extraction (episode_id, extractor, attempt, reply, problem) SELECT min(id), 'llm', %s, '', %s "
            "FROM episode",
            attempt, problem,
        )  # fmt: skip
    await StageStore(database, run_id).begin(HINTS, 1)
    await StageStore(database, run_id).end(HINTS, StageState(StagePhase.FAILED, permanent=True, message="gave no hint"))
    await StageStore(database, run_id).forget_failures(SPEC)
    assert await database.fetch("SELECT problem FROM extraction") == [{"problem": ""}]


async def test_delete_leaves_nothing_of_the_run(database: Database, run_id: int):
    other = await RunStore(database).register(parse({**document(), "metadata": {"name": "other"}}))
    await fail_rollout(database, run_id)
    await fail_rollout(database, other)
    for bank in ("default/test", "default/other"):
        await add_hint(database, bank)
    await database.execute("INSERT INTO hint_source SELECT hint.id, episode.id FROM hint, episode")
    await RunStore(database).delete(run_id)
    left = {"run": 1, "stage": 1, "episode": 4, "turn": 2, "hint": 1, "hint_source": 4}
    assert {table: len(await database.fetch(f"SELECT * FROM {table}")) for table in left} == left
    assert set(await StageStore(database, other).read_states()) == {ROLLOUT}
    assert await database.fetch("SELECT bank FROM hint") == [{"bank": "default/other"}]


async def add_hint(database: Database, bank: str) -> None:
    await database.execute(
        """INSERT INTO hint (bank, environment, agent, text, round, extractor, embedding)
           VALUES (%s, 'e', 'a', 'look first', 1, 'miner', array_fill(0.1, ARRAY[384])::halfvec)""",
        bank,
    )


OLD, NEW = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"


async def test_register_frees_the_name_when_the_uid_differs(database: Database):
    first = await RunStore(database).register(parse(document()), uid=OLD)
    await StageStore(database, first).begin(ROLLOUT, 1)
    await add_hint(database, "default/test")
    second = await RunStore(database).register(parse(document(rounds={"maxRounds": 3})), uid=NEW)
    assert second != first
    assert await RunStore(database).register(parse(document(rounds={"maxRounds": 3})), uid=NEW) == second
    assert await StageStore(database, second).read_states() == {}
    assert (await RunStore(database).find(f"default/test@{OLD}"))["id"] == first
    assert await database.fetch("SELECT bank FROM hint") == [{"bank": f"default/test@{OLD}"}]


async def test_register_refuses_a_late_process_when_its_name_was_taken(database: Database):
    await RunStore(database).register(parse(document()), uid=OLD)
    await RunStore(database).register(parse(document()), uid=NEW)
    with pytest.raises(InvalidRun, match=f"metadata.uid: {OLD}: .*{NEW}"):
        await RunStore(database).register(parse(document()), uid=OLD)


async def test_register_waits_when_the_earlier_run_is_driven(database: Database, dsn: str):
    first = await RunStore(database).register(parse(document()), uid=OLD)
    async with RunLock(dsn, first):
        with pytest.raises(RunLocked, match="default/test"):
            await RunStore(database).register(parse(document()), uid=NEW)
    assert await RunStore(database).register(parse(document()), uid=NEW) != first


async def test_register_adds_its_uid_when_the_row_has_none(database: Database):
    first = await RunStore(database).register(parse(document()))
    await database.execute("UPDATE run SET uid_is_provisional = true")
    assert await RunStore(database).register(parse(document()), uid=NEW) == first
    assert await RunStore(database).register(parse(document()), uid=NEW) == first
    assert await RunStore(database).register(parse(document()), uid=OLD) != first


async def test_forgive_stage_acts_once_when_many_processes_start(database: Database, run_id: int):
    queue = await fail_rollout(database, run_id)
    for again in (1, 4, 4):
        await StageStore(database, run_id).forget_failure(SPEC, ROLLOUT, request="2026-11-29T12:00:00Z")
        await StageStore(database, run_id).begin(ROLLOUT, 1)
        assert await queue.counts() == (again, 4)
        for lease in await queue.lease(9):
            await queue.retry_later(lease, "the server is away", max_attempts=1)
    await StageStore(database, run_id).forget_failure(SPEC, ROLLOUT, request="2026-11-29T13:00:00Z")
    assert await queue.counts() == (1, 4)


async def test_forgive_stage_takes_no_leases_when_it_never_ran(database: Database, run_id: int):
    queue = EpisodeQueue(database, run_id, round=1, arms=["own"], worker=Worker("w", 60))
    await StageStore(database, run_id).forget_failure(SPEC, ROLLOUT, request="now")
    await queue.enqueue([EpisodeRequest(task(1), "own")])
    (lease,) = await queue.lease(1)
    await StageStore(database, run_id).forget_failure(SPEC, ROLLOUT, request="now")
    assert await queue.renew([lease]) == {lease.episode_id}
