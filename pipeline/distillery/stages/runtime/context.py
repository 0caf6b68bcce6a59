"""The inputs of a stage: its configuration, and the stores that it reads and writes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from distillery.core.api import Spec
from distillery.core.artifacts import Store
from distillery.core.contracts.stage_config import StageConfig
from distillery.core.planner.plays import ON_POLICY
from distillery.core.secrets import read_secret
from distillery.database import Database
from distillery.database.episodes import EpisodeStore
from distillery.database.stages import StageStore, read_results
from distillery.environments.base import Report
from distillery.hints.bank import HintBank
from distillery.stages.runtime.failures import Terminated
from distillery.stages.runtime.prepared_run import Prepared
from distillery.stages.runtime.progress_server import ProgressReporter, Status


@dataclass(frozen=True)
class StageContext:
    """The inputs of a stage. Its parts get the few that they use."""

    config: StageConfig
    run_id: int
    database: Database
    store: Store
    status: Status
    stop: threading.Event = field(default_factory=threading.Event)
    """Set once the stage is asked to stop, for work in threads."""

    @cached_property
    def spec(self) -> Spec:
        """The run's specification."""
        return self.config.run.spec

    @property
    def round(self) -> int:
        """The round, from 1."""
        return self.config.stage_id.round

    def own_arm(self, round: int) -> str:
        """Return the arm of a round's play without hints that students learn from."""
        return self.config.own_arms[round - 1] if self.config.own_arms else ON_POLICY

    @property
    def checkpoints(self) -> Path:
        """A folder from which the next attempt at the stage continues; deleted once the result is published."""
        return self.config.work / "checkpoint"

    @cached_property
    def prepared(self) -> Prepared:
        """The pinned tasks, the environment and the agent."""
        return Prepared(self.spec, self.store, self.round)

    @cached_property
    def episodes(self) -> EpisodeStore:
        """The run's episodes."""
        return EpisodeStore(self.database, self.run_id)

    @cached_property
    def bank(self) -> HintBank:
        """The run's hints."""
        return HintBank.of(self.config.run, self.database)

    @cached_property
    def progress(self) -> ProgressReporter:
        """The reports of progress."""
        return ProgressReporter(self.status, StageStore(self.database, self.run_id), self.config.stage_id)

    def report_tasks(self) -> Report:
        """Return a function that reports how many tasks are made, and ends its thread once the stage has to stop."""
        report = self.progress.from_thread("tasks")

        def report_or_stop(done: int, total: int) -> None:
            if self.stop.is_set():
                raise Terminated("stopped on request")
            report(done, total)

        return report_or_stop

    async def read_earlier_result(self) -> Mapping[str, Any]:
        """Return the manifest of this stage's last success, with fewer held-out tasks; empty if there is none."""
        rows = await StageStore(self.database, self.run_id).read()
        return read_results(rows).get(self.config.stage, {})


def read_api_key(reference: tuple[str, str] | None) -> str:
    """Return the value of a Secret's key; empty without a reference. Raises :class:`SecretNotFound`."""
    return read_secret(*reference) if reference else ""
