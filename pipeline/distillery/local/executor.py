"""The local executor: carries out the planner's plans with processes of this machine."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillery.core.api import DistillationRun
from distillery.core.artifacts import ArtifactError, StoreUnavailable
from distillery.core.child_processes import die_with_parent
from distillery.core.contracts.stage_config import Server, StageConfig
from distillery.core.contracts.stage_result import read
from distillery.core.devices import machine_has_gpu
from distillery.core.model_files import ModelNotFound
from distillery.core.model_servers import serves_merged
from distillery.core.planner import (
    Kind,
    Model,
    Plan,
    PlanPhase,
    Stage,
    StageId,
    StagePhase,
    StageResult,
    StageState,
    plan,
)
from distillery.core.planner.graph import artifact_of
from distillery.database import Database, Row
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.episodes import EpisodeStore
from distillery.database.runs import RunLock, RunStore
from distillery.database.sessions import SessionStore
from distillery.database.stages import StageStore
from distillery.local.servers import Servers
from distillery.local.workers import work as run_workers
from distillery.local.workspace import folder_of, identity_of, store_of, store_uri
from distillery.serving.vllm import ServerFailed

_log = logging.getLogger(__name__)

# How long a store is waited for that holds a result and is away.
_STORE_SECONDS, _STORE_POLL_SECONDS = 600, 5


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The contents of a display: the plan, every stage's row of the database, and whether a process drives the run."""

    run: DistillationRun
    plan: Plan
    rows: list[Row]
    driven: bool = True


class LocalExecutor:
    """An executor that drives one run to its end. Starting it again resumes it, and what failed is tried again.

    Args:
        run: what to do.
        dsn: of the database, schema in place.
        embedded: the database server if it is this program's own; it is started again should it die.
        show: called with the progress every second or so.
    """

    def __init__(
        self,
        run: DistillationRun,
        dsn: str,
        embedded: EmbeddedPostgres | None = None,
        *,
        show: Callable[[RunProgress], None] = lambda _: None,
    ) -> None:
        self._run = run
        self._dsn = dsn
        self._embedded = embedded
        self._show = show
        self._folder = folder_of(run)
        self._tasks: dict[asyncio.Task[StageState], Stage] = {}

    async def execute(self) -> Plan:
        """Carry the run out, and return the plan that ended it, or that waits for failures of users.

        Raises:
            InvalidRun: a run of this name exists with another specification.
            RunLocked: another process drives this run.
        """
        async with Database(self._dsn) as database:
            run_id = await RunStore(database).enter(self._run)
            async with RunLock(self._dsn, run_id) as lock:
                # what another process runs by is not replaced under its hands
                await RunStore(database).register(self._run)
                # why a stage failed may be fixed by now
                await StageStore(database, run_id).forget_failures(self._run.spec)
                uid = await RunStore(database).read_uid(run_id)
                rows = await StageStore(database, run_id).read()
                self._identity = identity_of(self._run, uid, rows)
                self._store = store_of(self._run, uid, rows)
                self._servers = Servers(self._run.spec, self._store, self._folder / "logs" / "vllm.log")
                # the process that held the lock before is gone, and its workers died with it
                await EpisodeStore(database, run_id).release_all()
                for draft in await asyncio.to_thread(self._store.sweep, 0):
                    _log.info("removed %s, which a process left that died", draft)
                watch = asyncio.create_task(self._keep_database())
                try:
                    return await self._drive(database, run_id, lock)
                finally:
                    for task in self._tasks:
                        task.cancel()
                    await asyncio.gather(*self._tasks, return_exceptions=True)
                    await self._servers.stop()
                    watch.cancel()

    async def _keep_database(self) -> None:
        """Start the embedded database again whenever it dies."""
        while self._embedded:
            try:
                await asyncio.to_thread(self._embedded.ensure_running)
            except Exception as error:  # it may come up at the next try; the stages wait for it
                _log.warning("the embedded database does not start: %s", error)
            await asyncio.sleep(2.0)

    async def _drive(self, database: Database, run_id: int, lock: RunLock) -> Plan:
        """Start stages and record their ends, until the run is complete, failed or waits; return the last plan."""
        while True:
            states = await StageStore(database, run_id).read_states()
            ours = {stage.id for stage in self._tasks.values()}
            # a stage that was running when its driver died simply starts again; one that failed may hold the result of
            # an earlier attempt, which prepared for something else, and has failed all the same
            observed = {
                sid: state
                for sid, state in states.items()
                if sid in ours
                or state.phase == StagePhase.FAILED
                or (state.phase != StagePhase.RUNNING and self._identity.wrote(state.result.document))
            }
            failures = await SessionStore(database, run_id).count_pending_failures()
            current = plan(self._run.spec, observed, failures=failures)
            if current.phase != PlanPhase.RUNNING and not self._tasks:
                self._show(RunProgress(self._run, current, await StageStore(database, run_id).read()))
                return current
            for stage in self._select_startable(current):
                before = observed.get(stage.id)
                attempt = 1 + (before.attempts if before and before.phase == StagePhase.FAILED else 0)
                await StageStore(database, run_id).begin(stage.id, attempt)
                self._tasks[asyncio.create_task(self._perform(database, stage, run_id, attempt))] = stage
            self._show(RunProgress(self._run, current, await StageStore(database, run_id).read()))
            done, _ = await asyncio.wait(self._tasks, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                stage = self._tasks.pop(task)
                await StageStore(database, run_id).end(stage.id, task.result())
            await lock.ensure()

    def _select_startable(self, current: Plan) -> list[Stage]:
        """Return the plan's stages that fit on this machine now.

        Stages that need a server run alone, those first whose model is at hand; the others share the processors.
        """
        if current.phase != PlanPhase.RUNNING:
            return []
        running = list(self._tasks.values())
        waiting = [stage for stage in current.ready if stage.id not in {r.id for r in running}]
        playing = [stage for stage in waiting if stage.player]
        others = [stage for stage in waiting if not stage.player]
        if any(stage.player for stage in running):
            return []
        at_hand = [stage for stage in playing if stage.player and self._servers.suits(stage.player)]
        if not running and at_hand:
            return at_hand[:1]
        if others:
            return others[: max(0, _max_concurrent_stages() - len(running))]
        return playing[:1] if not running else []

    async def _perform(self, database: Database, stage: Stage, run_id: int, attempt: int) -> StageState:
        """Attempt a stage, from its server to its result."""
        try:
            server = None
            if stage.player:
                server = await self._serve(database, stage.id, run_id, stage.player)
            elif machine_has_gpu() and stage.id.kind is Kind.TRAIN:
                await self._servers.stop()  # a server takes the whole of the GPU's memory
            return await self._run_process(stage, attempt, server)
        except ModelNotFound as error:
            return StageState(StagePhase.FAILED, attempt, permanent=True, message=str(error))
        except (ServerFailed, ArtifactError) as error:
            return StageState(StagePhase.FAILED, attempt, message=str(error))

    async def _serve(self, database: Database, sid: StageId, run_id: int, model: Model) -> Server:
        """Return a server for a model; while it starts, the progress shows the end of its log."""
        sharing = max(1, await RunStore(database).count_driven(socket.gethostname()))
        starting = asyncio.create_task(self._servers.serve(model, sharing=sharing))
        try:
            while not self._servers.suits(model) and not starting.done():
                unit = self._servers.describe_start()
                await StageStore(database, run_id).report_progress(sid, done=0, total=0, unit=unit)
                await asyncio.wait([starting], timeout=2.0)
            return await starting
        finally:
            starting.cancel()

    async def _run_process(self, stage: Stage, attempt: int, server: Server | None) -> StageState:
        """Run a stage's processes to their ends, and return its state."""
        name = str(stage.id)
        work = self._folder / "work" / name
        work.mkdir(parents=True, exist_ok=True)
        settings = getattr(self._run.spec.stages, stage.id.kind.value)
        workers = self._run.spec.rollout.workers if stage.player else 1
        outcomes = [work / f"outcome-{index}.json" for index in range(workers)]
        for index, outcome in enumerate(outcomes):
            outcome.unlink(missing_ok=True)
            config = StageConfig.of(
                self._run,
                stage,
                identity=self._identity,
                server=server,
                player=self._servers.name_player(stage.player),
                merge=serves_merged(self._run.spec, gpu=machine_has_gpu()),
                store=store_uri(self._run),
                cache=self._folder / "cache",
                work=work,
                outcome=outcome,
            )
            (work / f"config-{index}.json").write_text(config.model_dump_json(indent=1), encoding="utf-8")

        def start(index: int) -> Awaitable[asyncio.subprocess.Process]:
            return self._start_process(stage, work / f"config-{index}.json", index)

        # where a worker is alone, its retries are the stage's
        retries = settings.max_retries if workers > 1 else 0
        try:
            ended = run_workers(start, workers, max_retries=retries)
            codes = await asyncio.wait_for(
                self._keep_server_meanwhile(ended, keep=bool(stage.player)), settings.timeout_seconds
            )
        except TimeoutError:
            message = f"took longer than spec.stages.{stage.id.kind}.timeoutSeconds: {settings.timeout_seconds}"
            return StageState(StagePhase.FAILED, attempt, message=message)
        return await self._find_state(stage.id, attempt + retries, codes, outcomes)

    async def _keep_server_meanwhile(self, ended: Coroutine[Any, Any, list[int]], *, keep: bool) -> list[int]:
        """Return the exit codes of workers, once all ended; keep the server that they use up until then."""
        codes = asyncio.create_task(ended)
        keeper = [asyncio.create_task(self._servers.keep())] if keep else []
        try:
            while not codes.done():
                done, _ = await asyncio.wait([codes, *keeper], return_when=asyncio.FIRST_COMPLETED)
                for task in keeper:
                    if task in done:
                        task.result()
                        keeper = []  # there is no server of ours
            return codes.result()
        finally:
            for task in [codes, *keeper]:
                task.cancel()
            await asyncio.gather(codes, *keeper, return_exceptions=True)

    async def _start_process(self, stage: Stage, config: Path, index: int) -> asyncio.subprocess.Process:
        """Start one worker of a stage, with a log of its own."""
        logs = self._folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        threads = max(1, (os.cpu_count() or 1) // (_max_concurrent_stages() if stage.id.kind is Kind.TRAIN else 1))
        with (logs / f"{stage.id}{f'-{index}' if index else ''}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"distillery.stages.{stage.id.kind}",
                str(config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "DISTILLERY_DATABASE_URL": self._dsn,
                    # their number stays whatever else runs here: training resumes to the same bits
                    "OMP_NUM_THREADS": str(threads),
                    "TOKENIZERS_PARALLELISM": "false",
                },
                preexec_fn=die_with_parent,
            )

    async def _find_state(self, sid: StageId, attempt: int, codes: list[int], outcomes: list[Path]) -> StageState:
        """Return how an attempt ended, by exit codes, the results left and the artifact.

        A worker ends well once nothing of the stage is left to do, so that one is enough.
        """
        if 0 not in codes:
            left = [read(path.read_text(encoding="utf-8"), attempt=attempt) for path in outcomes if path.exists()]
            failures = [state for state in left if state and state.phase == StagePhase.FAILED]
            if failures:
                return next((state for state in failures if state.permanent), failures[0])
            log = self._folder / "logs" / f"{sid}.log"
            return StageState(StagePhase.FAILED, attempt, message=f"ended with code {codes[0]} and no word; see {log}")
        try:
            manifest = await self._read_manifest(artifact_of(sid, self._run.spec.environment.tasks.evaluate))
            return StageState(StagePhase.SUCCEEDED, attempt, result=StageResult.read(manifest))
        except ArtifactError as error:
            return StageState(StagePhase.FAILED, attempt, message=str(error))

    async def _read_manifest(self, name: str) -> dict[str, Any]:
        """Return the manifest of a published stage; wait for a store that is away, for the work is done."""
        deadline = time.monotonic() + _STORE_SECONDS
        while True:
            try:
                return (await asyncio.to_thread(self._store.open, name))[1]
            except StoreUnavailable as error:
                if time.monotonic() > deadline:
                    raise
                _log.warning("waiting for the store: %s", error)
                await asyncio.sleep(_STORE_POLL_SECONDS)


def _max_concurrent_stages() -> int:
    """Return how many stages without a server run concurrently: a GPU is not shared, processors are."""
    return 1 if machine_has_gpu() else min(4, os.cpu_count() or 1)
