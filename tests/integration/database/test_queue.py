"""Leases on a real Postgres: every episode is counted once, whatever dies when."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from distillery.agents import Head
from distillery.database import Database
from distillery.database.episodes import MAX_LEASES, EpisodeQueue, Lease, Wanted, free_leases, read_episodes
from distillery.episodes import Turn
from tests.fakes.agents import episode, task

HEAD = Head(({"role": "user", "content": "hello"},))
TURN = Turn("go", "go", "You went.", True, 0, 12, 3, 8, 0.5, "length")


def queue(database: Database, run_id: int, worker: str = "w1", *, seconds: int = 60) -> EpisodeQueue:
    return EpisodeQueue(database, run_id, 1, ["own"], worker=worker, seconds=seconds)


async def filled(database: Database, run_id: int, count: int = 3) -> EpisodeQueue:
    made = queue(database, run_id)
    await made.enqueue(Wanted(task(number), "own", priority=float(number)) for number in range(count))
    return made


def played(lease: Lease, *, success: bool = True):
    return replace(episode([TURN], head=HEAD, opening="hello", of=lease.task, success=success, arm="own"))


async def expire(database: Database) -> None:
    await database.execute("UPDATE episode SET lease_until = now() - interval '1 second' WHERE phase = 'leased'")


async def test_the_longest_expected_is_leased_first(database: Database, run_id: int):
    leases = await (await filled(database, run_id)).lease(2)
    assert [lease.task.id for lease in leases] == ["train/2", "train/1"]


async def test_enqueueing_again_changes_nothing(database: Database, run_id: int):
    made = await filled(database, run_id)
    (lease,) = await made.lease(1)
    await made.finish(lease, played(lease))
    await filled(database, run_id)
    assert await made.counts() == (1, 3)


async def test_two_workers_never_get_the_same_episode(database: Database, run_id: int):
    await filled(database, run_id, 60)
    workers = [queue(database, run_id, f"w{n}") for n in range(6)]
    batches = await asyncio.gather(*(worker.lease(7) for worker in workers for _ in range(2)))
    ids = [lease.episode_id for batch in batches for lease in batch]
    assert len(ids) == len(set(ids)) == 60


async def test_an_episode_is_kept_with_its_turns(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    (lease,) = await made.lease(1)
    assert await made.finish(lease, played(lease))
    (kept,) = await read_episodes(database, run_id, arms=["own"], rounds=[1])
    assert kept.turns == (TURN,)
    assert kept.head == HEAD
    assert kept.success


async def test_an_expired_lease_goes_to_another_worker_and_the_first_is_refused(database: Database, run_id: int):
    first = await filled(database, run_id, 1)
    (lost,) = await first.lease(1)
    await expire(database)
    second = queue(database, run_id, "w2")
    (taken,) = await second.lease(1)
    assert taken.episode_id == lost.episode_id
    assert not await first.finish(lost, played(lost, success=False))
    assert await second.finish(taken, played(taken))
    (kept,) = await read_episodes(database, run_id, arms=["own"], rounds=[1])
    assert kept.success
    assert len(kept.turns) == 1


async def test_a_late_worker_still_counts_if_nobody_took_over(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    (lease,) = await made.lease(1)
    await expire(database)
    assert await made.finish(lease, played(lease))


async def test_finishing_twice_is_harmless(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    (lease,) = await made.lease(1)
    assert await made.finish(lease, played(lease))
    assert await made.finish(lease, played(lease))  # as after a commit whose confirmation was lost
    assert await made.counts() == (1, 1)


async def test_a_heartbeat_keeps_a_lease_and_tells_which_are_lost(database: Database, run_id: int):
    made = await filled(database, run_id, 2)
    one, two = await made.lease(2)
    await database.execute("UPDATE episode SET worker = 'somebody else' WHERE id = %s", two.episode_id)
    assert await made.renew([one, two]) == {one.episode_id}


async def test_what_is_given_back_costs_the_episode_nothing(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    for _ in range(MAX_LEASES + 5):
        assert len(await made.lease(1)) == 1
        await made.release()


async def test_a_broken_episode_is_tried_again_and_then_counts_as_a_failure(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    for _ in range(3):
        (lease,) = await made.lease(1)
        await made.break_off(lease, "the engine died", max_attempts=3)
    assert await made.lease(1) == []
    (kept,) = await read_episodes(database, run_id, arms=["own"], rounds=[1])
    assert (kept.success, kept.stop, kept.turns) == (False, "broken", ())


async def test_an_episode_that_kills_every_worker_is_given_up(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    for _ in range(MAX_LEASES):
        assert len(await made.lease(1)) == 1
        await expire(database)
    assert await made.lease(1) == []
    await made.give_up_hopeless()
    rows = await database.fetch("SELECT stop_reason, error FROM episode")
    assert rows == [{"stop_reason": "broken", "error": f"{MAX_LEASES} workers died while they played it"}]


async def test_leases_of_dead_workers_can_be_freed_at_once(database: Database, run_id: int):
    made = await filled(database, run_id, 2)
    await made.lease(2)
    await free_leases(database, run_id)
    assert len(await queue(database, run_id, "w2").lease(5)) == 2


async def test_a_restart_of_the_driver_costs_an_episode_nothing(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    for _ in range(MAX_LEASES + 5):
        assert len(await made.lease(1)) == 1
        await free_leases(database, run_id)
    await made.give_up_hopeless()
    assert await made.counts() == (0, 1)


async def test_an_episode_ends_when_workers_die_and_engines_break(database: Database, run_id: int):
    made = await filled(database, run_id, 1)
    for number in range(2 * MAX_LEASES - 1):
        (lease,) = await made.lease(1)
        if number % 2:
            await made.break_off(lease, "the engine died", max_attempts=100)
        else:
            await expire(database)
    assert await made.lease(1) == []
    await made.give_up_hopeless()
    assert await made.counts() == (1, 1)


async def test_an_episode_ends_when_it_waits_and_may_not_be_leased(database: Database, run_id: int):
    made = await filled(database, run_id, 2)
    await database.execute("UPDATE episode SET lease = %s WHERE task_id = 'train/0'", MAX_LEASES)
    assert len(await made.lease(2)) == 1
    await made.give_up_hopeless()
    assert await database.fetch("SELECT task_id, phase FROM episode ORDER BY id") == [
        {"task_id": "train/0", "phase": "finished"},
        {"task_id": "train/1", "phase": "leased"},
    ]


@pytest.mark.parametrize("kills", [1, 4])
async def test_workers_killed_at_random_lose_nothing_and_count_nothing_twice(
    database: Database, run_id: int, kills: int
):
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
