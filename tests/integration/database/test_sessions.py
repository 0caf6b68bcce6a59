"""The sessions of users in a real Postgres: recorded, claimed by rounds, and deleted in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from distillery.agents.plain import Plain
from distillery.core.contracts.capture import CapturedOutcome, CapturedRequest
from distillery.database import Database
from distillery.database.episodes import EpisodeStore
from distillery.database.sessions import SessionStore
from distillery.feedback.episodes import build_episode
from tests.fakes.agents import FakeEnvironment

NOW = datetime.now(UTC)
OPENING = {"role": "user", "content": "A room.\nYour task is to: put some mug in shelf."}
STEP = ({"role": "assistant", "content": "go to desk 1"}, {"role": "user", "content": "You see a mug 1."})


def exchange(session: str, steps: int = 1, *, age: float = 0.0, **more: Any) -> CapturedRequest:
    """A request after so many steps, so many days ago."""
    time = NOW - timedelta(days=age)
    return replace(CapturedRequest(session, "bot", "student-a", (OPENING, *STEP * steps), "look", time), **more)


def failed(session: str, *, age: float = 0.0, success: bool = False) -> CapturedOutcome:
    return CapturedOutcome(session, "bot", success, None, "", NOW - timedelta(days=age))


async def test_record_keeps_the_longest_request_when_requests_come_in_any_order(database: Database, run_id: int):
    await SessionStore(database, run_id).record([exchange("a", 3, answer="long")])
    await SessionStore(database, run_id).record([exchange("a", 1, answer="short"), exchange("a", 2, answer="middle")])
    (row,) = await database.fetch("SELECT turns, answer FROM session")
    assert row == {"turns": 8, "answer": "long"}


async def test_record_keeps_an_outcome_when_it_comes_before_its_requests(database: Database, run_id: int):
    await SessionStore(database, run_id).record(
        [failed("a"), failed("b"), exchange("c"), failed("d", success=True), exchange("d")]
    )
    assert (
        await SessionStore(database, run_id).count_pending_failures() == 0
    )  # of a and b there is nothing to learn yet
    await SessionStore(database, run_id).record([exchange("a")])
    assert await SessionStore(database, run_id).count_pending_failures() == 1


async def test_session_is_no_pending_failure_when_it_shows_no_reply(database: Database, run_id: int):
    empty = {"role": "assistant", "content": ""}
    await SessionStore(database, run_id).record([exchange("once", 0), failed("once"), failed("never")])
    await SessionStore(database, run_id).record(
        [exchange("silent", messages=(OPENING, empty, OPENING)), failed("silent")]
    )
    assert await SessionStore(database, run_id).count_pending_failures() == 0
    assert await SessionStore(database, run_id).claim(1, max_sessions=9) == []
    await SessionStore(database, run_id).record([exchange("once", 1)])
    assert await SessionStore(database, run_id).count_pending_failures() == 1


async def test_record_keeps_the_last_outcome_when_outcomes_come_in_any_order(database: Database, run_id: int):
    await SessionStore(database, run_id).record([exchange("a"), failed("a", age=1.0, success=True)])
    await SessionStore(database, run_id).record([failed("a", age=2.0)])
    assert await SessionStore(database, run_id).count_pending_failures() == 0
    await SessionStore(database, run_id).record([failed("a", age=0.5)])
    assert await SessionStore(database, run_id).count_pending_failures() == 1


async def test_record_does_not_deadlock_when_recorders_write_the_same_sessions(database: Database, run_id: int):
    names = [f"s{number}" for number in range(20)]
    batches = [[exchange(name, number) for name in names[::direction]] for number, direction in ((1, 1), (2, -1))]
    await asyncio.wait_for(asyncio.gather(*(SessionStore(database, run_id).record(batch) for batch in batches * 4)), 60)
    assert await database.fetch("SELECT DISTINCT turns FROM session") == [{"turns": 6}]


async def test_claim_returns_the_same_failures_when_a_round_is_tried_again(database: Database, run_id: int):
    for name in "abc":
        await SessionStore(database, run_id).record([exchange(name), failed(name)])
    first = await SessionStore(database, run_id).claim(2, max_sessions=2)
    assert [session.request.session for session in first] == ["a", "b"]
    assert await SessionStore(database, run_id).claim(2, max_sessions=2) == first
    assert [session.request.session for session in await SessionStore(database, run_id).claim(3, max_sessions=9)] == [
        "c"
    ]
    assert await SessionStore(database, run_id).count_pending_failures() == 0


async def test_add_stores_an_episode_once_when_it_is_added_again(database: Database, run_id: int):
    await SessionStore(database, run_id).record([exchange("a"), failed("a")])
    environment = FakeEnvironment()
    (session,) = await SessionStore(database, run_id).claim(1, max_sessions=9)
    episode = build_episode(session, Plain(environment), environment)
    for _ in range(2):
        await EpisodeStore(database, run_id).add(1, [(episode, session.request.time)])
    (read,) = await EpisodeStore(database, run_id).read(arms=["live"], rounds=[1])
    assert read.turns == episode.turns
    assert (read.task, read.prompt_prefix.messages, read.initial_observation) == (
        episode.task,
        episode.prompt_prefix.messages,
        episode.initial_observation,
    )
    assert await EpisodeStore(database, run_id).read(arms=["own", "baseline", "distilled"], rounds=[1]) == []


async def test_expire_deletes_sessions_and_episodes_when_they_are_old_or_excess(database: Database, run_id: int):
    for name, age in (("old", 31.0), ("older", 29.0), ("new", 0.0)):
        await SessionStore(database, run_id).record([exchange(name, age=age), failed(name, age=age)])
    environment = FakeEnvironment()
    claimed = await SessionStore(database, run_id).claim(1, max_sessions=9)
    read = [(build_episode(s, Plain(environment), environment), s.request.time) for s in claimed]
    await EpisodeStore(database, run_id).add(1, read)
    assert await SessionStore(database, run_id).expire(days=30, max_sessions=1) == 2
    assert await database.fetch("SELECT name FROM session") == [{"name": "new"}]
    left = await EpisodeStore(database, run_id).read(arms=["live"], rounds=[1])
    assert {episode.task.id for episode in left} == {"live/older", "live/new"}
