"""An environment that lies, breaks or never ends: through worker processes, a whole play and the driver, into Postgres.

Each lie ends its own episode with a reason, and the honest episodes next to it are played and counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web

from distillery.agents.plain import Plain
from distillery.database import Database
from distillery.database.episode_queue import EpisodeQueue, EpisodeRequest, Worker
from distillery.environments.base import Task
from distillery.environments.pool.pool import EnvironmentConfig, EnvironmentPool
from distillery.llm.client import ChatClient, RequestSettings
from distillery.rollouts.driver import Driver, DriverLimits
from distillery.rollouts.player import Budget, Player
from tests.fakes.chat_server import FakeServer, completion
from tests.fakes.environments import FakeEnvironment
from tests.unit.environments.conftest import registered as registered

LIES = {
    "nan": "score is nan",
    "above": "score is 7.0, not a number from 0 to 1",
    "below": "score is -0.5",
    "word": "score is 'high'",
    "surrogate": "no Unicode text",
    "bytes": "not a str",
    "number": "text is 3, not a str",
    "nul": "NUL character",
    "huge": "2,000,000 characters",
    "long": "garbage",
    "nothing": "None, not with an Observation",
    "perhaps": "done is 'perhaps'",
    "unlisted": "admissible is None",
    "fail": "LookupError: no such thing",
    "garble": "LookupError: no ? nor ?!",
    "leave": "SystemExit: 3",
    "interrupt": "died: killed by SIGINT",
    "misconfigure": "too late",
    "die": "killed by SIGKILL",
    "hang": "no answer within 10 s",
}
HONEST = [f"honest {number}" for number in range(10)]
BUDGET = Budget(max_steps=6, max_turns=10, max_repeated_replies=100, max_tokens=20, temperature=0.0)


class FakeEnvironmentOfAnyWords(FakeEnvironment):
    """An environment without verbs, of which the agent ``plain`` needs nothing else."""

    verbs: ClassVar[tuple[str, ...]] = ()


async def say_what_the_task_is(body: dict[str, Any]) -> web.Response:
    return completion(body["messages"][0]["content"])


def task(words: str, *, broken_from_the_start: bool = False) -> Task:
    return Task(words, "train", "count", words if broken_from_the_start else "count")


@pytest.fixture
async def played(database: Database, run_id: int) -> dict[str, dict[str, Any]]:
    """Return every lie in a step, one in each kind of opening, and honest episodes: by task, how they ended."""
    queue = EpisodeQueue(database, run_id, round=1, arms=["own"], worker=Worker("w1", 60))
    openings = [Task(f"opens with {lie}", "train", "count", lie) for lie in ("nan", "nul", "fail", "die")]
    await queue.enqueue(EpisodeRequest(one, "own") for one in [*map(task, [*HONEST, *LIES]), *openings])
    agent: Any = Plain(FakeEnvironmentOfAnyWords({}, Path()))  # type: ignore[arg-type]

    async def ignore(done: int, total: int) -> None: ...

    async with (
        FakeServer(say_what_the_task_is) as server,
        ChatClient(server.base_url, "m", RequestSettings(timeout=60)) as client,
        EnvironmentPool(EnvironmentConfig("fake", {}, Path()), processes=2, step_timeout=10) as pool,
    ):
        player = Player(agent, 0, pool, client)
        driver = Driver(
            queue,
            lambda lease: player.play(lease, BUDGET),
            DriverLimits(concurrency=8, lease_seconds=60, max_attempts=1),
            on_progress=ignore,
        )
        await driver.run()
    columns = "task_id, phase, stop_reason, success, score, steps, failures, error"
    rows = await database.fetch(f"SELECT {columns} FROM episode")
    return {row["task_id"]: row for row in rows}


async def test_invalid_answer_ends_only_its_own_episode(played: dict[str, dict[str, Any]]):
    assert {row["phase"] for row in played.values()} == {"finished"}
    for lie, reason in LIES.items():
        row = played[lie]
        assert (row["stop_reason"], row["success"], row["score"], row["failures"]) == ("broken", False, 0, 1), lie
        assert reason in row["error"], lie
        assert len(row["error"]) < 2100
    for name, row in played.items():
        if name.startswith("opens with "):
            assert (row["stop_reason"], row["success"]) == ("broken", False)
    assert "score is nan" in played["opens with nan"]["error"]
    # what never ends is ended by the budget
    assert {(played[name]["stop_reason"], played[name]["steps"], played[name]["failures"]) for name in HONEST} == {
        ("steps", BUDGET.max_steps, 0)
    }
