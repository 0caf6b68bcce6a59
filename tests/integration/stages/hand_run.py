"""A run whose stages a test carries out by hand: a real database and store, and an environment that makes tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distillery.core.api import parse
from distillery.core.artifacts import FolderStore, Identity
from distillery.core.contracts.stage_config import StageConfig
from distillery.core.planner import Stage, StageResult, StageState
from distillery.core.planner.graph import PREPARE, artifact_of
from distillery.core.planner.states import StagePhase
from distillery.database import Database
from distillery.database.episode_queue import EpisodeQueue, EpisodeRequest, Worker
from distillery.database.runs import RunStore
from distillery.database.stages import StageStore
from distillery.environments.base import Report, Task
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.progress_server import Status
from distillery.stages.runtime.runner import StageMain
from tests.fakes.agents import FakeEnvironment, episode, task
from tests.integration.episodes import PREFIX
from tests.unit.documents import document


class FakeMaker(FakeEnvironment):
    """Makes tasks on demand, into its folder; up to a limit."""

    limit = 10_000

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._made = folder / "made.json"

    def prepare(self, wanted: Mapping[str, int], *, report: Report = lambda done, total: None) -> None:
        self._made.write_text(json.dumps({split: min(number, self.limit) for split, number in wanted.items()}))

    def catalog(self, split: str) -> Sequence[Task]:
        return [task(number, split=split) for number in range(json.loads(self._made.read_text())[split])]


class HandRun:
    """A run, its store and its database.

    Attributes:
        run: the resource.
        store: its artifacts; prepare's is there.
    """

    def __init__(self, database: Database, run_id: int, folder: Path, **spec: Any) -> None:
        self.run = parse(document(**spec))
        self.store = FolderStore(folder / "store")
        self._database, self._run_id, self._folder = database, run_id, folder
        tasks = self.run.spec.environment.tasks
        artifact = artifact_of(PREPARE, tasks.evaluate)
        draft = self.store.draft(artifact)
        (draft / "environment").mkdir()
        FakeMaker(draft / "environment").prepare({"train": tasks.train, "test": tasks.evaluate})
        pinned = {"train": [asdict(task(n)) for n in range(tasks.train)]}
        pinned |= {"evaluate": [asdict(task(n, split="test")) for n in range(tasks.evaluate)]}
        (draft / "tasks.json").write_text(json.dumps(pinned))
        facts = {
            "environment": {"name": "fake", "source": "made up", "split": "test"},
            "base": {"model": "m", "revision": None, "sha256": "0"},
        }
        self.store.publish(
            artifact, draft, {**facts, "tasks": {"train": {"n": tasks.train}, "evaluate": {"n": tasks.evaluate}}}
        )

    @classmethod
    async def create(cls, database: Database, folder: Path, **spec: Any) -> HandRun:
        """Return a run that the database knows."""
        return cls(database, await RunStore(database).register(parse(document(**spec))), folder, **spec)

    def context(self, stage: Stage) -> StageContext:
        """Return the inputs of a stage."""
        config = StageConfig.of(
            self.run, stage, server=None, store=self.store.root.as_uri(), cache=self._folder,
            identity=Identity("uid", "a" * 64), work=self._folder, outcome=self._folder / "outcome",
        )  # fmt: skip
        return StageContext(config, self._run_id, self._database, self.store, Status(config.stage))

    async def carry_out(self, main: StageMain, stage: Stage) -> Mapping[str, Any]:
        """Carry a stage out, publish its artifact, and record its result; return it."""
        context = self.context(stage)
        result, draft = await main(context)
        return await self.record(stage, dict(result), draft)

    async def record(self, stage: Stage, result: Mapping[str, Any], draft: Path | None = None) -> Mapping[str, Any]:
        """Publish and record the result of a stage."""
        name = artifact_of(stage.id, self.run.spec.environment.tasks.evaluate)
        manifest = self.store.publish(
            name, draft or self.store.draft(str(stage.id)), {"stage": str(stage.id), **result}
        )
        stages = StageStore(self._database, self._run_id)
        await stages.begin(stage.id, 1)
        await stages.end(stage.id, StageState(StagePhase.SUCCEEDED, result=StageResult.read(manifest)))
        return manifest

    async def play(self, round: int, arm: str, tasks: Mapping[str, bool]) -> None:
        """Play tasks in an arm of a round: each by its id, and whether it is solved."""
        queue = EpisodeQueue(self._database, self._run_id, round=round, arms=[arm], worker=Worker("w", 60))
        of = [Task(name, name.partition("/")[0], "put", f"put {name}") for name in tasks]
        await queue.enqueue(EpisodeRequest(one, arm) for one in of)
        for lease in await queue.lease(999):
            opening = f"hello {lease.task.id}"
            solved = tasks[lease.task.id]
            made = episode([], prefix=PREFIX, initial_observation=opening, of=lease.task, success=solved, arm=arm)
            assert await queue.finish(lease, made)
