"""Leases on a real Postgres: every episode is counted once, whatever dies when."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from distillery.database import Database
from distillery.database.episode_queue import MAX_LEASES, EpisodeQueue, EpisodeRequest, Lease, Worker
from distillery.database.episodes import EpisodeStore
from distillery.episodes import Turn
from tests.fakes.agents import episode, task
from tests.integration.episodes import PREFIX

TURN = Turn("go", "go", "You went.", True, 0, 12, 3, 8, 0.5, "length")


def queue(database: Database, run_id: int, worker: str = "w1", *, seconds: int = 60) -> EpisodeQueue:
    return EpisodeQueue(database, run_id, round=1, arms=["own"], worker=Worker(worker, seconds))


async def filled(database: Database, run_id: int, count: int = 3) -> EpisodeQueue:
    made = queue(database, run_id)
    await made.enqueue(EpisodeRequest(task(number), "own", priority=float(number)) for number in range(count))
    return made


def played(lease: Lease, *, success: bool = True):
    return replace(
        episode([TURN], prefix=PREFIX, initial_observation="hello", of=lease.task, success=success, arm="own")
    )


async def expire(database: Database) -> None:
    await database.execute("UPDATE episode SET lease_until = now() - interval '1 second' WHERE phase = 'leased'")


async def test_lease_takes_the_episode_of_the_highest_priority_first(database: Database, run_id: int):
    leases = await (await filled(database, run_id)).lease(2)
    assert [lease.task.id for lease in leases] == ["train/2", "train/1"]


async def test_enqueue_changes_nothing_when_the_episodes_exist(database: Database, run_id: int):
    made = await filled(database, run_id)
    (lease,) = await made.lease(1)
    await made.finish(lease, played(lease))
    await filled(database, run_id)
    assert await made.counts() == (1, 3)


async def test_lease_gives_an_episode_to_one_worker_when_many_ask(database: Database, run_id: int):
    await filled(database, run_id, 60)
    workers = [queue(database, run_id, f"w{n}") for n in range(6)]
    batches = await asyncio.gather(*(worker.lease(7) for worker in workers for _ in range(2)))
    ids = [lease.episode_id for batch in batches for lease in batch]
    assert len(ids) == len(set(ids)) == 60


async def test_finish_stores_an_episode_with_its_turns(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    (lease,) = await made.lease(1)
    assert await made.finish(lease, played(lease))
    (kept,) = await EpisodeStore(database, run_id).read(arms=["own"], rounds=[1])
    assert kept.turns == (TURN,)
    assert kept.prompt_prefix == PREFIX
    assert kept.success


async def test_finish_is_refused_when_another_worker_has_the_lease(database: Database, run_id: int):
    first = await filled(database, run_id, 1)
    (lost,) = await first.lease(1)
    await expire(database)
    second = queue(database, run_id, "w2")
    (taken,) = await second.lease(1)
    assert taken.episode_id == lost.episode_id
    assert not await first.finish(lost, played(lost, success=False))
    assert await second.finish(taken, played(taken))
    (kept,) = await EpisodeStore(database, run_id).read(arms=["own"], rounds=[1])
    assert kept.success
    assert len(kept.turns) == 1


async def test_finish_counts_when_the_lease_expired_and_nobody_took_it(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    (lease,) = await made.lease(1)
    await expire(database)
    assert await made.finish(lease, played(lease))


async def test_finish_stores_once_when_it_is_called_twice(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    (lease,) = await made.lease(1)
    assert await made.finish(lease, played(lease))
    assert await made.finish(lease, played(lease))  # as after a commit whose confirmation was lost
    assert await made.counts() == (1, 1)


async def test_renew_returns_the_leases_that_are_still_held(database: Database, run_id: int):
    made = await filled(database, run_id, 2)
    one, two = await made.lease(2)
    await database.execute("UPDATE episode SET worker = 'somebody else' WHERE id = %s", two.episode_id)
    assert await made.renew([one, two]) == {one.episode_id}


async def test_release_counts_no_lease_against_an_episode(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    for _ in range(MAX_LEASES + 5):
        assert len(await made.lease(1)) == 1
        await made.release()


async def test_retry_later_finishes_as_a_failure_after_max_attempts(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    for _ in range(3):
        (lease,) = await made.lease(1)
        await made.retry_later(lease, "the engine died", max_attempts=3)
    assert await made.lease(1) == []
    (kept,) = await EpisodeStore(database, run_id).read(arms=["own"], rounds=[1])
    assert (kept.success, kept.stop, kept.turns) == (False, "broken", ())


async def test_fail_exhausted_ends_an_episode_when_it_kills_every_worker(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    for _ in range(MAX_LEASES):
        assert len(await made.lease(1)) == 1
        await expire(database)
    assert await made.lease(1) == []
    await made.fail_exhausted()
    rows = await database.fetch("SELECT stop_reason, error FROM episode")
    assert rows == [{"stop_reason": "broken", "error": f"{MAX_LEASES} workers died while they played it"}]


async def test_release_all_frees_leases_when_workers_died(database: Database, run_id: int):
    made = await filled(database, run_id, 2)
    await made.lease(2)
    await EpisodeStore(database, run_id).release_all()
    assert len(await queue(database, run_id, "w2").lease(5)) == 2


async def test_release_all_counts_no_lease_when_the_driver_restarts(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    for _ in range(MAX_LEASES + 5):
        assert len(await made.lease(1)) == 1
        await EpisodeStore(database, run_id).release_all()
    await made.fail_exhausted()
    assert await made.counts() == (0, 1)


async def test_episode_ends_when_workers_die_and_engines_break(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    for number in range(2 * MAX_LEASES - 1):
        (lease,) = await made.lease(1)
        if number % 2:
            await made.retry_later(lease, "the engine died", max_attempts=100)
        else:
            await expire(database)
    assert await made.lease(1) == []
    await made.fail_exhausted()
    assert await made.counts() == (1, 1)


async def test_fail_exhausted_ends_a_waiting_episode_when_its_leases_are_used_up(database: Database, run_id: int):
    made = await filled(database, run_id, 2)
    await database.execute("UPDATE episode SET lease = %s WHERE task_id = 'train/0'", MAX_LEASES)
    assert len(await made.lease(2)) == 1
    await made.fail_exhausted()
    assert await database.fetch("SELECT task_id, phase FROM episode ORDER BY id") == [
        {"task_id": "train/0", "phase": "finished"},
        {"task_id": "train/1", "phase": "leased"},
    ]


@pytest.mark.parametrize("kills", [1, 4])
async def test_episodes_are_counted_once_when_workers_die_at_random(database: Database, run_id: int, kills: int):
    made = await filled(database, run_id, 40)

    async def work(worker: EpisodeQueue) -> None:
        while leases := await worker.lease(3):
            for lease in leases:
                await asyncio.sleep(0.001)
                await worker.finish(lease, played(lease))

    for number in range(kills):
        victim = asyncio.create_task(work(queue(database, run_id, f"victim{number}")))
        await asyncio.sleep(0.05)
        victim.cancel()
        await asyncio.gather(victim, return_exceptions=True)
    await expire(database)
    await asyncio.gather(*(work(queue(database, run_id, f"w{n}")) for n in range(3)))
    assert await made.counts() == (40, 40)
    rows = await database.fetch("SELECT count(*) AS turns, count(DISTINCT episode_id) AS episodes FROM turn")
    assert rows == [{"turns": 40, "episodes": 40}]


async def play_as(database: Database, run_id: int, player: str, request: EpisodeRequest, *, round: int) -> int:
    """Enqueue an episode in a round, and play it if it has to be; return how many had to be."""
    made = EpisodeQueue(database, run_id, round=round, arms=[request.arm], worker=Worker("w1", 60))
    await made.enqueue([request], player=player)
    leases = await made.lease(9)
    for lease in leases:
        assert await made.finish(lease, replace(played(lease), arm=request.arm))
    return len(leases)


FIRST = EpisodeRequest(task(1), "distilled", hints=("look into the desk",))


@pytest.mark.parametrize(
    ("player", "request_", "plays"),
    [
        ("d1", FIRST, 0),
        ("d1", replace(FIRST, arm="baseline"), 0),
        ("d2", FIRST, 1),
        ("", FIRST, 1),
        ("d1", replace(FIRST, hints=()), 1),
        ("d1", replace(FIRST, task=task(2)), 1),
        ("d1", replace(FIRST, temperature=0.7), 1),
    ],
)
async def test_greedy_episode_is_copied_only_when_its_inputs_are_the_same(
    database: Database, run_id: int, player: str, request_: EpisodeRequest, plays: int
):
    assert await play_as(database, run_id, "d1", FIRST, round=1) == 1
    assert await play_as(database, run_id, player, request_, round=2) == plays


async def test_copy_has_the_turns_and_costs_nothing(database: Database, run_id: int):
    for round in (1, 2, 3):
        await play_as(database, run_id, "d1", FIRST, round=round)
    store = EpisodeStore(database, run_id)
    first, second, third = await store.read(arms=["distilled"], rounds=[1, 2, 3])
    for copy in (second, third):
        assert replace(copy, id=first.id) == first
    assert [e.id for e in await store.read(arms=["distilled"], rounds=[1, 2, 3], copies=False)] == [first.id]
    assert [row["round"] for row in await store.count_tokens()] == [1]
    sources = await database.fetch("SELECT DISTINCT copied_from FROM episode WHERE round > 1")
    assert [row["copied_from"] for row in sources] == [first.id]


async def test_broken_episode_is_played_again(database: Database, run_id: int):
    made = queue(database, run_id)
    await made.enqueue([EpisodeRequest(task(1), "own")], player="d1")
    (lease,) = await made.lease(1)
    await made.retry_later(lease, "the game broke", max_attempts=1)
    assert await play_as(database, run_id, "d1", EpisodeRequest(task(1), "own"), round=2) == 1


async def test_episode_is_copied_once_when_many_workers_enqueue(database: Database, run_id: int):
    await play_as(database, run_id, "d1", FIRST, round=1)
    workers = [
        EpisodeQueue(database, run_id, round=2, arms=["distilled"], worker=Worker(f"w{n}", 60)) for n in range(6)
    ]
    await asyncio.gather(*(worker.enqueue([FIRST], player="d1") for worker in workers))
    assert [await worker.lease(1) for worker in workers] == [[]] * 6
    (copy,) = await EpisodeStore(database, run_id).read(arms=["distilled"], rounds=[2])
    assert copy.turns == (TURN,)
