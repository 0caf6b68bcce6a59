"""CPU time of a rollout worker's own process for a step, with 32 and with 1,024 episodes in flight.

    python -m benchmarks.driver

All of the product takes part: queue in an embedded Postgres, driver, client, pool of environment processes, uvloop.
The model server and the environment are stand-ins in other processes, which count for nothing, as does Postgres. Every
episode has the same number of steps, with prompts of 5 to 13 KB; both concurrencies play the same steps, in turn. Times
are CPU seconds of the process (``time.process_time``) from the first lease to the last result, divided by steps.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import uvloop

from benchmarks.figures import Figure, conclude, options
from benchmarks.stand_ins import Corridor, registered, server, tasks
from distillery.agents.plain import Plain
from distillery.api import parse
from distillery.database import Database
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.episodes import EpisodeQueue, Wanted
from distillery.database.migrate import migrate
from distillery.database.runs import register
from distillery.environments.pool import EnvironmentPool
from distillery.rollouts.client import ChatClient
from distillery.rollouts.driver import Driver
from distillery.rollouts.play import Budget, play

FEW, MANY = 32, 1024
SECONDS = 0.02
"""Of the server, for an answer."""

RUN = {
    "apiVersion": "distillery.dev/v1alpha1",
    "kind": "DistillationRun",
    "metadata": {"name": "benchmark"},
    "spec": {"models": {"student": {"model": "/models/none"}}},
}


async def measure(dsn: str, base_url: str, *, rounds: list[int], episodes: int, steps: int) -> list[float]:
    """Microseconds of CPU a step, for each round's concurrency."""
    agent = Plain(Corridor({}, Path()))
    budget = Budget(max_steps=steps, max_calls=steps, stop_after_identical=steps + 1, max_tokens=48, temperature=0.0)

    async def ignore(done: int, total: int) -> None: ...

    found = []
    async with (
        Database(dsn) as database,
        ChatClient(base_url, "m", timeout=120) as client,
        EnvironmentPool("corridor", {}, Path(), processes=1, step_timeout=60) as pool,
    ):
        run_id = await register(database, parse(RUN))
        for number, concurrency in enumerate(rounds, 1):
            queue = EpisodeQueue(database, run_id, number, ["own"], worker="w", seconds=120)
            await queue.enqueue(Wanted(task, "own") for task in tasks([steps] * episodes))
            driver = Driver(
                queue,
                lambda lease: play(lease, agent=agent, examples=0, environments=pool, client=client, budget=budget),
                concurrency=concurrency,
                lease_seconds=120,
                max_attempts=1,
                on_progress=ignore,
            )
            start = time.process_time()
            await driver.run()
            found.append((time.process_time() - start) * 1e6 / (episodes * steps))
            played = await database.fetch(
                "SELECT count(*) AS n, sum(steps) AS steps FROM episode WHERE round = %s AND success", number
            )
            assert played[0] == {"n": episodes, "steps": episodes * steps}, played
    return found


def main() -> None:
    """Measure both, in turn."""
    parser = options(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    episodes, steps, repeats = (MANY, 6, 1) if chosen.short else (MANY, 30, chosen.repeats)
    rounds = [FEW, MANY] * repeats
    with tempfile.TemporaryDirectory(prefix="distillery-bench-") as folder, server(SECONDS) as base_url:
        environment = registered(Path(folder) / "plugins")
        sys.path.insert(0, str(Path(folder) / "plugins"))
        Path(folder).chmod(0o755)
        with mock.patch.dict(os.environ, environment), EmbeddedPostgres(Path(folder) / "pg") as postgres:
            migrate(postgres.dsn)
            work = measure(postgres.dsn, base_url, rounds=rounds, episodes=episodes, steps=steps)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(work)
    few, many = statistics.median(found[::2]), statistics.median(found[1::2])
    n = f"{episodes * steps:,} steps, {repeats} time{'s' * (repeats > 1)} each"
    figures = [
        Figure(f"driver: CPU a step, {FEW} in flight", few, n, most=300, unit="µs", room=2),
        Figure(f"driver: CPU a step, {MANY:,} in flight", many, n, most=300, unit="µs", room=2),
        Figure(f"driver: CPU a step, {MANY:,} / {FEW} in flight", many / few, n, most=1.5),
    ]
    conclude("driver", figures, chosen, {"microseconds": {"concurrency": rounds, "step": found}})


if __name__ == "__main__":
    main()
