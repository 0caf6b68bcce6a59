"""The driver with a real queue: many in flight, nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from distillery.database import Database
from distillery.database.episode_queue import EpisodeQueue, EpisodeRequest, Lease, Worker
from distillery.environments.pool.pool import EnvironmentFailure
from distillery.episodes import Episode, Turn
from distillery.llm.client import ServerUnavailable
from distillery.rollouts.driver import AllEpisodesBroke, Driver, DriverLimits
from tests.fakes.agents import episode, task
from tests.integration.episodes import PREFIX


async def ignore(done: int, total: int) -> None: ...


def driver(
    database: Database,
    run_id: int,
    play: Callable[[Lease], Awaitable[Episode]],
    *,
    worker: str = "w1",
    concurrency: int = 8,
    lease_seconds: int = 30,
) -> Driver:
    queue = EpisodeQueue(database, run_id, round=1, arms=["own"], worker=Worker(worker, lease_seconds))
    limits = DriverLimits(concurrency, lease_seconds, max_attempts=3)
    return Driver(queue, play, limits, on_progress=ignore)


async def play_well(lease: Lease) -> Episode:
    await asyncio.sleep(0.001)
    made = episode(
        [Turn("go", "go", "ok", True, 0, 1, 1, None, 0.0)], prefix=PREFIX, initial_observation="hello", of=lease.task
    )
    return replace(made, arm=lease.arm)


@pytest.fixture(autouse=True)
async def episodes(database: Database, run_id: int) -> None:
    queue = EpisodeQueue(database, run_id, round=1, arms=["own"], worker=Worker("setup", 30))
    await queue.enqueue(EpisodeRequest(task(number), "own") for number in range(50))


async def outcome(database: Database) -> dict[str, int]:
    rows = await database.fetch("SELECT phase, count(*) AS n FROM episode GROUP BY phase")
    return {row["phase"]: row["n"] for row in rows}


async def test_driver_plays_all_episodes_within_its_concurrency(database: Database, run_id: int):
    in_flight, most = 0, 0

    async def play(lease: Lease) -> Episode:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        try:
            return await play_well(lease)
        finally:
            in_flight -= 1

    await driver(database, run_id, play).run()
    assert await outcome(database) == {"finished": 50}
    assert 1 < most <= 8


async def test_drivers_play_each_episode_once_when_two_share_a_queue(database: Database, run_id: int):
    by: Counter[str] = Counter()

    def counting(worker: str) -> Callable[[Lease], Awaitable[Episode]]:
        async def play(lease: Lease) -> Episode:
            by[worker] += 1
            return await play_well(lease)

        return play

    await asyncio.gather(*(driver(database, run_id, counting(w), worker=w, concurrency=2).run() for w in ("w1", "w2")))
    assert await outcome(database) == {"finished": 50}
    assert sum(by.values()) == 50
    assert min(by.values()) > 0


async def test_driver_finishes_the_other_episodes_when_one_breaks(database: Database, run_id: int):
    async def play(lease: Lease) -> Episode:
        if lease.task.id == "train/7":
            raise EnvironmentFailure("the engine crashed")
        return await play_well(lease)

    await driver(database, run_id, play).run()
    rows = await database.fetch("SELECT task_id, failures, error FROM episode WHERE stop_reason = 'broken'")
    assert rows == [{"task_id": "train/7", "failures": 3, "error": "the engine crashed"}]
    assert await outcome(database) == {"finished": 50}


async def test_driver_fails_early_when_the_first_episodes_all_break(database: Database, run_id: int):
    played: list[int] = []

    async def play(lease: Lease) -> Episode:
        played.append(lease.episode_id)
        raise EnvironmentFailure("answered with 'hello', not with an Observation")

    with pytest.raises(AllEpisodesBroke, match=r"^8 of 8 .*answered with 'hello'"):
        await driver(database, run_id, play, concurrency=2).run()
    assert len(set(played)) <= 10  # of 50: those that finished, and those in flight
    assert (await outcome(database))["finished"] == 8


async def test_driver_fails_early_when_no_first_prompt_fits_the_context(database: Database, run_id: int):
    """A server with too small a ``--max-model-len``: nothing is ever played."""

    async def play(lease: Lease) -> Episode:
        return replace(await play_well(lease), turns=(), success=False, stop="context", error="4,000 tokens, 2,048 fit")

    with pytest.raises(AllEpisodesBroke, match=r"^8 of 8 .*4,000 tokens, 2,048 fit"):
        await driver(database, run_id, play, concurrency=2).run()


async def test_driver_fails_when_every_episode_of_a_short_stage_breaks(database: Database, run_id: int):
    await database.execute("DELETE FROM episode WHERE task_id NOT IN ('train/1', 'train/2')")

    async def play(lease: Lease) -> Episode:
        raise EnvironmentFailure("the engine crashed")

    with pytest.raises(AllEpisodesBroke, match=r"^2 of 2 .*the engine crashed"):
        await driver(database, run_id, play, lease_seconds=2).run()


async def test_driver_continues_when_another_worker_finished_an_episode(database: Database, run_id: int):
    await database.execute(
        """UPDATE episode SET phase = 'finished', success = false, score = 0, stop_reason = 'steps'
           WHERE task_id = 'train/1'"""
    )

    async def play(lease: Lease) -> Episode:
        if lease.task.id == "train/49":
            return await play_well(lease)
        raise EnvironmentFailure("the engine crashed")

    await driver(database, run_id, play, lease_seconds=2).run()
    assert await outcome(database) == {"finished": 50}


async def test_driver_releases_its_leases_when_the_server_is_gone(database: Database, run_id: int):
    calls = 0

    async def play(lease: Lease) -> Episode:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise ServerUnavailable("gone")
        return await play_well(lease)

    with pytest.raises(ServerUnavailable):
        await driver(database, run_id, play).run()
    assert "leased" not in await outcome(database)
    await driver(database, run_id, play_well, worker="w2").run()
    assert await outcome(database) == {"finished": 50}


async def test_driver_ends_with_the_reason_when_its_heartbeat_dies(
    database: Database, run_id: int, monkeypatch: pytest.MonkeyPatch
):
    async def renew(queue: EpisodeQueue, leases: object) -> set[int]:
        raise LookupError("no leases")

    async def play(lease: Lease) -> Episode:
        await asyncio.sleep(600)
        return await play_well(lease)

    monkeypatch.setattr(EpisodeQueue, "renew", renew)
    async with asyncio.timeout(60):
        with pytest.raises(LookupError, match="no leases"):
            await driver(database, run_id, play, lease_seconds=1).run()
    assert await outcome(database) == {"waiting": 50}


async def test_cancelled_driver_gives_its_leases_back(database: Database, run_id: int):
    started = asyncio.Event()

    async def play(lease: Lease) -> Episode:
        started.set()
        await asyncio.sleep(600)
        return await play_well(lease)

    work = asyncio.create_task(driver(database, run_id, play).run())
    await started.wait()
    assert await outcome(database) == {"leased": 8, "waiting": 42}
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert await outcome(database) == {"waiting": 50}


async def test_long_episode_keeps_its_lease(database: Database, run_id: int):
    started: Counter[str] = Counter()

    async def play(lease: Lease) -> Episode:
        started[lease.task.id] += 1
        if lease.task.id == "train/0":
            await asyncio.sleep(5)  # longer than the lease
        return await play_well(lease)

    both = [driver(database, run_id, play, worker=worker, concurrency=4, lease_seconds=3) for worker in ("w1", "w2")]
    await asyncio.gather(*(one.run() for one in both))
    assert started["train/0"] == 1
    assert await outcome(database) == {"finished": 50}
