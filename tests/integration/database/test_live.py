"""What users played, in a real Postgres: kept by recorders, taken over by rounds, and deleted in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from distillery.agents.plain import Plain
from distillery.database import Database
from distillery.database.episodes import read_episodes
from distillery.database.sessions import Exchange, Outcome, add_episodes, claim, expire, gathered, record
from distillery.feedback.episodes import episode_of
from tests.fakes.agents import FakeEnvironment

NOW = datetime.now(UTC)
OPENING = {"role": "user", "content": "A room.\nYour task is to: put some mug in shelf."}
STEP = ({"role": "assistant", "content": "go to desk 1"}, {"role": "user", "content": "You see a mug 1."})


def exchange(session: str, steps: int = 1, *, age: float = 0.0, **more: Any) -> Exchange:
    """A request after so many steps, so many days ago."""
    time = NOW - timedelta(days=age)
    return replace(Exchange(session, "bot", "student-a", (OPENING, *STEP * steps), "look", time), **more)


def failed(session: str, *, age: float = 0.0, success: bool = False) -> Outcome:
    return Outcome(session, "bot", success, None, "", NOW - timedelta(days=age))


async def test_the_longest_request_of_a_session_wins_in_whatever_order_it_comes(database: Database, run_id: int):
    await record(database, run_id, [exchange("a", 3, answer="long")])
    await record(database, run_id, [exchange("a", 1, answer="short"), exchange("a", 2, answer="middle")])
    (row,) = await database.fetch("SELECT turns, answer FROM session")
    assert row == {"turns": 8, "answer": "long"}


async def test_an_outcome_may_come_before_what_it_is_of(database: Database, run_id: int):
    await record(database, run_id, [failed("a"), failed("b"), exchange("c"), failed("d", success=True), exchange("d")])
    assert await gathered(database, run_id) == 0  # of a and b there is nothing to learn yet
    await record(database, run_id, [exchange("a")])
    assert await gathered(database, run_id) == 1


async def test_what_shows_no_reply_and_what_came_of_it_is_no_failure_to_learn_from(database: Database, run_id: int):
    empty = {"role": "assistant", "content": ""}
    await record(database, run_id, [exchange("once", 0), failed("once"), failed("never")])
    await record(database, run_id, [exchange("silent", messages=(OPENING, empty, OPENING)), failed("silent")])
    assert await gathered(database, run_id) == 0
    assert await claim(database, run_id, 1, most=9) == []
    await record(database, run_id, [exchange("once", 1)])
    assert await gathered(database, run_id) == 1


async def test_the_outcome_that_was_told_last_wins_in_whatever_order_it_comes(database: Database, run_id: int):
    await record(database, run_id, [exchange("a"), failed("a", age=1.0, success=True)])
    await record(database, run_id, [failed("a", age=2.0)])
    assert await gathered(database, run_id) == 0
    await record(database, run_id, [failed("a", age=0.5)])
    assert await gathered(database, run_id) == 1


async def test_recorders_that_write_the_same_sessions_at_once_do_not_wait_in_a_ring(database: Database, run_id: int):
    names = [f"s{number}" for number in range(20)]
    batches = [[exchange(name, number) for name in names[::direction]] for number, direction in ((1, 1), (2, -1))]
    await asyncio.wait_for(asyncio.gather(*(record(database, run_id, batch) for batch in batches * 4)), 60)
    assert await database.fetch("SELECT DISTINCT turns FROM session") == [{"turns": 6}]


async def test_a_failure_is_used_by_one_round_and_a_retry_gets_the_same(database: Database, run_id: int):
    for name in "abc":
        await record(database, run_id, [exchange(name), failed(name)])
    first = await claim(database, run_id, 2, most=2)
    assert [session.exchange.session for session in first] == ["a", "b"]
    assert await claim(database, run_id, 2, most=2) == first
    assert [session.exchange.session for session in await claim(database, run_id, 3, most=9)] == ["c"]
    assert await gathered(database, run_id) == 0


async def test_what_is_taken_over_is_an_episode_once(database: Database, run_id: int):
    await record(database, run_id, [exchange("a"), failed("a")])
    environment = FakeEnvironment()
    (session,) = await claim(database, run_id, 1, most=9)
    episode = episode_of(session, Plain(environment), environment)
    for _ in range(2):
        await add_episodes(database, run_id, 1, [(episode, session.exchange.time)])
    (read,) = await read_episodes(database, run_id, arms=["live"], rounds=[1])
    assert read.turns == episode.turns
    assert (read.task, read.head.messages, read.opening) == (episode.task, episode.head.messages, episode.opening)
    assert await read_episodes(database, run_id, arms=["own", "baseline", "distilled"], rounds=[1]) == []


async def test_the_old_and_the_too_many_are_deleted_with_what_was_taken_over(database: Database, run_id: int):
    for name, age in (("old", 31.0), ("older", 29.0), ("new", 0.0)):
        await record(database, run_id, [exchange(name, age=age), failed(name, age=age)])
    environment = FakeEnvironment()
    claimed = await claim(database, run_id, 1, most=9)
    read = [(episode_of(s, Plain(environment), environment), s.exchange.time) for s in claimed]
    await add_episodes(database, run_id, 1, read)
    assert await expire(database, run_id, days=30, most=1) == 2
    assert await database.fetch("SELECT name FROM session") == [{"name": "new"}]
    left = await read_episodes(database, run_id, arms=["live"], rounds=[1])
    assert {episode.task.id for episode in left} == {"live/older", "live/new"}
