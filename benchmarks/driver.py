"""CPU time of a rollout worker's own process for a step, with 32 and with 1,024 episodes in flight.

    python -m benchmarks.driver

All of the product takes part: queue in an embedded Postgres, driver, client, pool of environment processes, uvloop.
The model server and the environment are stand-ins in other processes, which count for nothing, as does Postgres. Every
episode has the same number of steps, with prompts of 5 to 15 KB; all cases play the same steps, in turn. Times are CPU
seconds of the process (``time.process_time``) from the first lease to the last result, divided by steps. They are given
with the pool, and without it: then sessions are objects of this process, and what is left is client, loop and queue.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import uvloop

from benchmarks.support.fakes import Corridor, CorridorSession, register, server, tasks
from benchmarks.support.figures import Figure, conclude, options
from distillery.agents.plain import Plain
from distillery.core.api import parse
from distillery.database import Database
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.episode_queue import EpisodeQueue, EpisodeRequest, Worker
from distillery.database.migrate import migrate
from distillery.database.runs import RunStore
from distillery.environments.base import Observation, Task
from distillery.environments.pool.pool import EnvironmentConfig, EnvironmentPool
from distillery.llm.client import ChatClient, RequestSettings
from distillery.rollouts.driver import Driver, DriverLimits, collect_garbage_seldom
from distillery.rollouts.player import Budget, Player

FEW, MANY = 32, 1024
SECONDS = 0.02
"""Of the server, for an answer."""

RUN = {
    "apiVersion": "distillery.dev/v1alpha1",
    "kind": "DistillationRun",
    "metadata": {"name": "benchmark"},
    "spec": {"models": {"student": {"model": "/models/none"}}},
}


@dataclass(frozen=True, slots=True)
class Case:
    """How a round is played: episodes in flight, and whether sessions live in a process of the pool."""

    concurrency: int
    pool: bool


class AtHand:
    """Sessions in this process, in the place of a pool."""

    async def open(self, task: Task) -> tuple[Session, Observation]:
        """A session."""
        made = Session(Corridor({}, Path()).open(task))
        return made, made.within.reset()


@dataclass(frozen=True, slots=True)
class Session:
    """A session that is awaited for nothing."""

    within: CorridorSession

    async def step(self, action: str) -> Observation:
        """One action."""
        return self.within.step(action)

    async def close(self) -> None:
        """Nothing is held."""


async def measure(dsn: str, base_url: str, *, cases: Sequence[Case], episodes: int, steps: int) -> list[float]:
    """Microseconds of CPU a step, for each case."""
    agent = Plain(Corridor({}, Path()))
    budget = Budget(max_steps=steps, max_turns=steps, max_repeated_replies=steps + 1, max_tokens=48, temperature=0.0)

    async def ignore(done: int, total: int) -> None: ...

    found = []
    async with (
        Database(dsn) as database,
        ChatClient(base_url, "m", RequestSettings(timeout=120)) as client,
        EnvironmentPool(EnvironmentConfig("corridor", {}, Path()), processes=1, step_timeout=60) as pool,
    ):
        run_id = await RunStore(database).register(parse(RUN))
        for number, case in enumerate(cases, 1):
            environments: Any = pool if case.pool else AtHand()
            queue = EpisodeQueue(database, run_id, round=number, arms=["own"], worker=Worker("w", 120))
            await queue.enqueue(EpisodeRequest(task, "own") for task in tasks([steps] * episodes))
            driver = Driver(
                queue,
                partial(Player(agent, 0, environments, client).play, budget=budget),
                DriverLimits(concurrency=case.concurrency, lease_seconds=120, max_attempts=1),
                on_progress=ignore,
            )
            collect_garbage_seldom()
            start = time.process_time()
            await driver.run()
            found.append((time.process_time() - start) * 1e6 / (episodes * steps))
            played = await database.fetch(
                "SELECT count(*) AS n, sum(steps) AS steps FROM episode WHERE round = %s AND success", number
            )
            assert played[0] == {"n": episodes, "steps": episodes * steps}, played
    return found


def main() -> None:
    """Measure all cases, in turn."""
    parser = options(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    episodes, steps, repeats = (MANY, 6, 1) if chosen.short else (MANY, 30, chosen.repeats)
    kinds = [Case(n, pool) for pool in ((True,) if chosen.short else (False, True)) for n in (FEW, MANY)]
    with tempfile.TemporaryDirectory(prefix="distillery-bench-") as folder, server(SECONDS) as base_url:
        Path(folder).chmod(0o755)  # for the user that Postgres runs as
        environment = register(Path(folder) / "plugins")
        with mock.patch.dict(os.environ, environment), EmbeddedPostgres(Path(folder) / "pg") as postgres:
            migrate(postgres.dsn)
            work = measure(postgres.dsn, base_url, cases=kinds * repeats, episodes=episodes, steps=steps)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(work)
    medians = {case: statistics.median(found[index :: len(kinds)]) for index, case in enumerate(kinds)}
    n = f"{episodes * steps:,} steps, {repeats} time{'s' * (repeats > 1)} each"
    figures = []
    for case, microseconds in medians.items():
        what = f"{'with' if case.pool else 'without'} the pool's pipes, {case.concurrency:,} in flight"
        figures.append(Figure(f"CPU per step, {what}", microseconds, n, most=300, unit="µs", room=10))
    for pool in {case.pool for case in kinds}:
        ratio = medians[Case(MANY, pool)] / medians[Case(FEW, pool)]
        what = f"CPU per step, {'with' if pool else 'without'} the pool's pipes, {MANY:,} / {FEW} in flight"
        figures.append(Figure(what, ratio, n, most=1.5))
    conclude("driver", figures, chosen, {"cases": [asdict(case) for case in kinds], "microseconds": found})


if __name__ == "__main__":
    main()
