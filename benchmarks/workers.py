"""Rollout workers that share a stage's games: throughput of W next to 1, and what killing a fifth of them costs.

    python -m benchmarks.workers

Workers are what the executors start, ``python -m distillery.stages.rollout``, each with its environment process; they
share episodes by leases in an embedded Postgres. The model server is a stand-in that sleeps for every answer: work is
bound by waiting, as it is when servers have GPUs of their own, so that two cores are enough for five workers. A case
is timed from its first lease to its last result; start-up is left out, the workers begin together. The killed worker
goes by SIGKILL after a quarter of the episodes and nobody takes its place; its episodes come back when their leases run
out. Nothing is lost: every episode has one result, with all its steps.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from benchmarks.support.fakes import register, server, tasks
from benchmarks.support.figures import Figure, conclude, options
from distillery.core.api import parse
from distillery.core.api.learned import digest_of_learned
from distillery.core.artifacts import Identity, store_at
from distillery.core.child_processes import die_with_parent
from distillery.core.contracts.stage_config import Server, StageConfig
from distillery.core.planner.graph import BASE, PREPARE, Kind, Stage, StageId, artifact_of
from distillery.core.planner.plays import ON_POLICY
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.migrate import migrate

IN_FLIGHT, LEASE, SECONDS = 8, 10, 0.1
"""Episodes of a worker, seconds of a lease, seconds of the server for an answer."""

STAGE = Stage(StageId(1, Kind.ROLLOUT), player=BASE, arms=(ON_POLICY,))


@dataclass(frozen=True)
class Place:
    """The place of all cases: a folder for artifacts and logs, a database, and the variables of the workers."""

    folder: Path
    dsn: str
    environment: Mapping[str, str]


class Case:
    """One stage, played by so many workers.

    Args:
        name: of the run.
        place: shared with other cases.
        workers: how many.
        episodes: for all of them together.
    """

    def __init__(self, name: str, place: Place, *, workers: int, episodes: int) -> None:
        self._folder = place.folder / name
        self._dsn = place.dsn
        self._environment = {**place.environment, "DISTILLERY_DATABASE_URL": place.dsn, "OMP_NUM_THREADS": "1"}
        self._workers = workers
        rng = random.Random(0)
        self._tasks = tasks([rng.randint(6, 14) for _ in range(episodes)])
        self._run = parse(_document(name, episodes))
        self._identity = Identity(str(uuid.uuid4()), digest_of_learned(self._run))
        self._publish_prepared()

    def play(self, *, kill: bool = False) -> dict[str, Any]:
        """Seconds, steps a second and how episodes ended; ``kill`` kills the first worker after a quarter."""
        with server(SECONDS, clients=self._workers) as base_url, contextlib.ExitStack() as stack:
            config = self._write_config(base_url)
            processes = [stack.enter_context(self._worker(config, number)) for number in range(self._workers)]
            if kill:
                while self._count("phase = 'finished'") < len(self._tasks) / 4:
                    time.sleep(0.1)
                processes[0].kill()
            codes = [process.wait() for process in processes]
        if any(codes[kill:]):
            raise RuntimeError(f"workers ended with {codes}; see {self._folder}")
        return self._outcome()

    def _publish_prepared(self) -> None:
        store = store_at((self._folder / "artifacts").as_uri(), self._identity, cache=self._folder / "cache")
        draft = store.draft(str(PREPARE))
        (draft / "environment").mkdir()
        pinned = {"train": [asdict(task) for task in self._tasks], "evaluate": []}
        (draft / "tasks.json").write_text(json.dumps(pinned))
        name = artifact_of(PREPARE, self._run.spec.environment.tasks.evaluate)
        store.publish(name, draft, {"environment": {"name": "corridor", "source": "corridor"}})

    def _write_config(self, base_url: str) -> Path:
        config = StageConfig.of(
            self._run,
            STAGE,
            identity=self._identity,
            server=Server(base_url=base_url, model="m"),
            store=(self._folder / "artifacts").as_uri(),
            cache=self._folder / "cache",
            work=self._folder / "work",
            outcome=self._folder / "outcome.json",
        )
        path = self._folder / "config.json"
        path.write_text(config.model_dump_json())
        return path

    @contextlib.contextmanager
    def _worker(self, config: Path, number: int) -> Generator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "distillery.stages.rollout", str(config)]
        with (self._folder / f"worker-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, preexec_fn=die_with_parent
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def _outcome(self) -> dict[str, Any]:
        with psycopg.connect(self._dsn) as connection, connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(
                """SELECT count(*) AS episodes, sum(steps) AS steps, sum(lease) AS leases,
                          extract(epoch FROM max(finished_at) - min(started_at))::float AS seconds,
                          count(DISTINCT worker) AS workers, count(*) FILTER (WHERE success) AS successes
                   FROM episode JOIN run ON run.id = run_id WHERE run.key = %s""",
                (self._run.key,),
            )
            found = cursor.fetchone()
        assert found is not None
        wanted = sum(int(task.id.rpartition(":")[2]) for task in self._tasks)
        lost = len(self._tasks) - found["successes"]
        if lost or found["episodes"] != len(self._tasks) or found["steps"] != wanted:
            raise RuntimeError(f"{len(self._tasks)} episodes of {wanted} steps became {found}")
        return {**found, "lost": lost, "rate": wanted / found["seconds"]}

    def _count(self, condition: str) -> int:
        query = f"SELECT count(*) FROM episode JOIN run ON run.id = run_id WHERE run.key = %s AND {condition}"
        with psycopg.connect(self._dsn) as connection:
            row = connection.execute(query.encode(), (self._run.key,)).fetchone()
        assert row is not None
        return row[0]


def _document(name: str, episodes: int) -> dict[str, Any]:
    return {
        "apiVersion": "distillery.dev/v1alpha1",
        "kind": "DistillationRun",
        "metadata": {"name": name},
        "spec": {
            "environment": {"name": "corridor", "maxSteps": 50, "tasks": {"train": episodes, "evaluate": 1}},
            "agent": {"name": "plain", "maxRepeatedReplies": 100},
            "models": {"student": {"model": "/models/none"}},
            "rollout": {"concurrency": IN_FLIGHT, "leaseSeconds": LEASE},
        },
    }


def main() -> None:
    """Play the cases one after the other."""
    parser = options(__doc__)
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=360, help="for each worker: 8 of them take a second")
    chosen = parser.parse_args()
    workers, episodes = (3, 40) if chosen.short else (chosen.workers, chosen.episodes)
    with tempfile.TemporaryDirectory(prefix="distillery-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # for the user that Postgres runs as
        environment = register(folder / "plugins")
        with EmbeddedPostgres(folder / "pg") as postgres:
            migrate(postgres.dsn)
            place = Place(folder, postgres.dsn, environment)

            def play(name: str, number: int, *, kill: bool = False) -> dict[str, Any]:
                return Case(name, place, workers=number, episodes=number * episodes).play(kill=kill)

            one, all_ = play("one", 1), play("all", workers)
            killed = None if chosen.short else play("killed", workers, kill=True)
    n = f"{all_['episodes']:,} episodes"
    speed = all_["rate"] / one["rate"]
    figures = [Figure(f"throughput of {workers} workers / {workers} x 1", speed / workers, n, least=0.9)]
    if killed:
        ratio = killed["seconds"] / all_["seconds"]
        figures += [
            Figure(f"time with 1 of {workers} workers killed / none", ratio, n, most=1.25),
            Figure("episodes lost", killed["lost"], n, most=0, room=1),
        ]
    conclude("workers", figures, chosen, {"one": one, "all": all_, "killed": killed})


if __name__ == "__main__":
    main()
