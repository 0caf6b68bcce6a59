"""The pinned tasks, the environment and the agent of a run, as stage prepare left them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from distillery.agents import Agent
from distillery.core import plugins
from distillery.core.api import Spec
from distillery.core.artifacts import ArtifactNotFound, Store
from distillery.core.planner import Kind, StageId
from distillery.core.planner.graph import artifact_of
from distillery.core.planner.prepared import open_prepared
from distillery.environments.base import Environment, Task
from distillery.stages.runtime.failures import StageFailure


class Prepared:
    """The artifacts of the stages prepare and sample.

    Args:
        spec: of the run.
        store: the artifacts of the run.
        round: whose training tasks are meant; those of the first are the ones of stage prepare.
    """

    def __init__(self, spec: Spec, store: Store, round: int) -> None:
        self._spec = spec
        self._store = store
        self._round = round

    def first(self) -> Prepared:
        """Return the same for the first round."""
        return Prepared(self._spec, self._store, 1)

    def before(self) -> Prepared:
        """Return the same for the round before; for the first, where an earlier release sampled no tasks then."""
        before = Prepared(self._spec, self._store, self._round - 1)
        try:
            before.folder_of("train")
        except ArtifactNotFound:
            return self.first()
        return before

    @cached_property
    def _artifact(self) -> tuple[Path, dict[str, Any]]:
        """The folder and the manifest."""
        return open_prepared(self._store, self._spec.environment.tasks.evaluate)

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The result of the stage."""
        return self._artifact[1]

    @cached_property
    def _sampled(self) -> Path:
        """The folder with the round's training tasks."""
        if self._round <= 1:
            return self._artifact[0]
        return self._store.open(str(StageId(self._round, Kind.SAMPLE)))[0]

    @cached_property
    def _judged(self) -> Path:
        """The folder with the tasks on which the round's candidate is confirmed."""
        judge = StageId(self._round, Kind.JUDGE)
        return self._store.open(artifact_of(judge, self._spec.environment.tasks.evaluate))[0]

    def _folder(self, purpose: str) -> Path:
        """Return the folder of the artifact that holds the tasks of a purpose."""
        match purpose:
            case "train":
                return self._sampled
            case "confirm":
                return self._judged
            case _:
                return self._artifact[0]

    def folder_of(self, purpose: str) -> Path:
        """Return the folder with the environment's material for the tasks ``train``, ``evaluate`` or ``confirm``."""
        return self._folder(purpose) / "environment"

    @cached_property
    def environment(self) -> Environment:
        """The environment, on the material of the stage.

        Raises:
            StageFailure: its tasks come from elsewhere now than when the run began.
        """
        environment = open_environment(self._spec, self.folder_of("evaluate"))
        source = self.manifest["environment"]["source"]
        if environment.source != source:
            raise StageFailure(
                f"the run began with tasks of {source}, and now they are {environment.source}: "
                "set the environment's variables (such as ALFWORLD_DATA) as they were"
            )
        return environment

    @cached_property
    def agent(self) -> Agent:
        """The agent's format."""
        return load_agent(self._spec, self.environment)

    def tasks(self, purpose: str) -> list[Task]:
        """Return the tasks of a purpose, in their order.

        They are the round's training tasks (``train``), the held-out tasks that all rounds share (``evaluate``), and
        those that the round's candidate is confirmed on (``confirm``).
        """
        return read_tasks(self._folder(purpose))[purpose]


def open_environment(spec: Spec, folder: Path) -> Environment:
    """Return the environment of a run, with its material in a folder."""
    settings = spec.environment
    kind: Callable[[Mapping[str, Any], Path], Environment] = plugins.load("environments", settings.name)
    environment = kind(settings.plugin_options, folder)
    environment.limit_steps(settings.max_steps)
    return environment


def load_agent(spec: Spec, environment: Environment) -> Agent:
    """Return the agent of a run."""
    kind: Callable[[Environment], Agent] = plugins.load("agents", spec.agent.name)
    return kind(environment)


def read_tasks(folder: Path) -> dict[str, list[Task]]:
    """Return the tasks that are pinned in an artifact's folder, by purpose."""
    lists = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    return {purpose: [Task(**task) for task in tasks] for purpose, tasks in lists.items()}
