"""The parts that every stage module shares: start, context, exit code."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from distillery.agents import Agent
from distillery.core import plugins
from distillery.core.api import InvalidRun, Spec
from distillery.core.artifacts import ArtifactError, Identity, Store, store_at
from distillery.core.artifacts.drafts import ORPHANED_SECONDS
from distillery.core.contracts import stage_result
from distillery.core.contracts.stage_config import StageConfig
from distillery.core.model_files import ModelNotFound
from distillery.core.planner import StageState
from distillery.core.planner.prepared import open_prepared
from distillery.core.secrets import SecretNotFound, read_secret
from distillery.database import Database, DatabaseRefused, dsn_from_environment
from distillery.database.retries import forgive_stage
from distillery.database.runs import (
    begin_stage,
    end_stage,
    recorded_results,
    register,
    report_progress,
    stage_rows,
)
from distillery.environments.base import Environment, EnvironmentConfigurationError, Task
from distillery.hints.bank import HintBank
from distillery.llm.client import RequestRefused
from distillery.rollouts.worker import AllEpisodesBroke
from distillery.stages.runtime.progress import Status

TERMINATED = 128 + signal.SIGTERM
_REPORT_SECONDS = 2.0

_log = logging.getLogger(__name__)


class StageFailure(Exception):
    """The stage can't succeed, however often it is tried; the message says why."""


class Terminated(Exception):
    """SIGTERM came, and the state for resuming is saved."""


_PERMANENT = (
    AllEpisodesBroke,
    DatabaseRefused,
    EnvironmentConfigurationError,
    InvalidRun,
    ModelNotFound,
    RequestRefused,
    SecretNotFound,
    StageFailure,
    plugins.UnknownPlugin,
)

Result = Mapping[str, Any]
StageMain = Callable[["StageContext"], Awaitable[tuple[Result, Path | None]]]


@dataclass(frozen=True)
class StageContext:
    """Everything a stage works with."""

    config: StageConfig
    run_id: int
    database: Database
    store: Store
    status: Status
    stop: threading.Event = field(default_factory=threading.Event)
    """Set once the stage is asked to stop, for work in threads."""

    @property
    def checkpoints(self) -> Path:
        """A folder for what the next attempt at the stage continues from; it goes once the result is published."""
        return self.config.work / "checkpoint"

    @cached_property
    def worker(self) -> str:
        """The name of this process in leases; unique among all that ever work on the run."""
        return f"{self.config.stage}/{socket.gethostname()}/{uuid.uuid4().hex[:12]}"

    @cached_property
    def spec(self) -> Spec:
        """The run's specification."""
        return self.config.run.spec

    @cached_property
    def environment(self) -> Environment:
        """The environment, on what stage prepare wrote.

        Raises:
            StageFailure: its tasks come from elsewhere now than when the run began.
        """
        environment = self.environment_in(self.environment_folder)
        _, manifest = open_prepared(self.store, self.spec.environment.tasks.evaluate)
        began_with = manifest["environment"]["source"]
        if environment.source != began_with:
            raise StageFailure(
                f"the run began with tasks of {began_with}, and now they are {environment.source}: "
                "set the environment's variables (such as ALFWORLD_DATA) as they were"
            )
        return environment

    @property
    def environment_folder(self) -> Path:
        """The folder in which stage prepare left the environment's material."""
        return self.prepared / "environment"

    @cached_property
    def prepared(self) -> Path:
        """The folder that stage prepare left."""
        return open_prepared(self.store, self.spec.environment.tasks.evaluate)[0]

    def environment_in(self, folder: Path) -> Environment:
        """Return the environment on another folder."""
        environment = self.spec.environment
        kind: Callable[[Mapping[str, Any], Path], Environment] = plugins.load("environments", environment.name)
        made = kind(environment.plugin_options, folder)
        made.limit_steps(environment.max_steps)
        return made

    @cached_property
    def agent(self) -> Agent:
        """The agent's format."""
        kind: Callable[[Environment], Agent] = plugins.load("agents", self.spec.agent.name)
        return kind(self.environment)

    @cached_property
    def bank(self) -> HintBank:
        """The run's hints."""
        spec = self.spec
        return HintBank(
            self.database, bank=self.config.run.key, environment=spec.environment.name, agent=spec.agent.name
        )

    @property
    def round(self) -> int:
        """The round, from 1."""
        return self.config.stage_id.round

    def result_of(self, stage: str) -> dict[str, Any]:
        """Return the manifest of a stage that this one needs."""
        return self.store.manifest(stage)

    async def earlier_result(self) -> dict[str, Any]:
        """Return the manifest of this stage's last success, with fewer held-out tasks; empty if there is none."""
        rows = await stage_rows(self.database, self.run_id)
        return recorded_results(rows).get(self.config.stage, {})

    def pinned(self, purpose: str) -> list[Task]:
        """Return the pinned tasks ``train`` or ``evaluate``, in their order."""
        lists = json.loads((self.prepared / "tasks.json").read_text(encoding="utf-8"))
        return [Task(**task) for task in lists[purpose]]

    async def report(self, done: int, total: int, unit: str = "") -> None:
        """Record progress for displays and scripts."""
        self.status.report(done, total, unit)
        await report_progress(self.database, self.run_id, self.config.stage_id, done=done, total=total, unit=unit)

    def reporter(self, unit: str) -> Callable[[int, int], None]:
        """Return a function like :meth:`report` for work in a thread: call it with (done, total) at any rate."""
        loop, last = asyncio.get_running_loop(), 0.0

        def report(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > _REPORT_SECONDS or done == total:
                last = time.monotonic()
                asyncio.run_coroutine_threadsafe(self.report(done, total, unit), loop)

        return report


def secret(reference: tuple[str, str] | None) -> str:
    """Return the value of a Secret's key; empty without a reference. Raises :class:`SecretNotFound`."""
    return read_secret(*reference) if reference else ""


def run_stage(main: StageMain) -> None:
    """Run a stage module's ``main`` as a process: read the config, publish the result, exit with the right code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    config = StageConfig.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            code = runner.run(_run(main, config))
    except Exception as error:
        permanent = isinstance(error, _PERMANENT)
        terminated = isinstance(error, Terminated)
        _log.error("stage %s: %s", config.stage, error, exc_info=not (permanent or terminated))
        stage_result.write_failure(config.outcome, str(error) or type(error).__name__, permanent=permanent)
        code = stage_result.CONFIGURATION_ERROR if permanent else TERMINATED if terminated else 1
    sys.exit(code)


async def _run(main: StageMain, config: StageConfig) -> int:
    task = asyncio.current_task()
    assert task is not None
    stop, stage, identity = threading.Event(), config.stage_id, Identity.parse(config.identity)

    def terminate() -> None:
        stop.set()
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        async with Database(_dsn()) as database, Status(config.stage) as status:
            run_id = await register(database, config.run, uid=identity.uid)
            if config.retry:
                await forgive_stage(database, run_id, config.run.spec, stage, config.retry)
            store = store_at(
                config.store,
                identity,
                cache=config.cache,
                endpoint_url=config.store_endpoint,
                recorded=recorded_results(await stage_rows(database, run_id)),
            )
            if config.records_itself:
                await begin_stage(database, run_id, stage, 1)
                # on one machine the driver does, which knows that none of its processes is left
                await asyncio.to_thread(store.sweep, ORPHANED_SECONDS)
            context = StageContext(config, run_id, database, store, status, stop)
            try:
                result, draft = await main(context)
                draft = draft or store.draft(config.stage)
                result = {"stage": config.stage, **result}
                manifest = await asyncio.to_thread(store.publish, config.artifact, draft, result)
            finally:
                store.close()
            await asyncio.to_thread(_forget_checkpoints, context)
            if config.records_itself:
                await end_stage(database, run_id, stage, StageState("succeeded", result=manifest))
    except asyncio.CancelledError as error:
        raise Terminated("stopped on request") from error
    stage_result.write_success(config.outcome, manifest)
    _log.info("stage %s is done", config.stage)
    return 0


def _forget_checkpoints(context: StageContext) -> None:
    """What is left of them costs room, and no more: the result is published."""
    shutil.rmtree(context.checkpoints, ignore_errors=True)
    try:
        context.store.forget(context.config.stage)
    except ArtifactError as error:
        _log.warning("a checkpoint stays in the store: %s", error)


def _dsn() -> str:
    dsn = dsn_from_environment()
    if not dsn:
        raise StageFailure("name a database in DISTILLERY_DATABASE_URL or DISTILLERY_DATABASE_URL_FILE")
    return dsn


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop

    return uvloop.new_event_loop
