"""The local executor: carries out the planner's plans with processes of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distillery.api import DistillationRun
from distillery.artifacts import ArtifactError
from distillery.database import Database, Row
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.episodes import free_leases
from distillery.database.live import gathered
from distillery.database.runs import RunLock, begin_stage, end_stage, observe, register, report_progress, stage_rows
from distillery.executors.home import folder_of, store_of, store_uri
from distillery.executors.servers import Servers
from distillery.models import ModelNotFound
from distillery.planning import Kind, Plan, Stage, StageId, StageState, plan
from distillery.serving.choice import has_gpu, merges
from distillery.serving.process import die_with_parent
from distillery.serving.vllm import ServerFailed
from distillery.stages.config import Server, StageConfig
from distillery.stages.outcome import read

_log = logging.getLogger(__name__)

# Time for a stage to write its checkpoint after SIGTERM.
_GRACE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Progress:
    """What a display shows: the plan, and every stage's row of the database."""

    run: DistillationRun
    plan: Plan
    rows: list[Row]


class LocalExecutor:
    """Drives one run to its end. Starting it again goes on where it was.

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
        show: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._run = run
        self._dsn = dsn
        self._embedded = embedded
        self._show = show
        self._folder = folder_of(run)
        self._store = store_of(run)
        self._servers = Servers(run.spec, self._store, self._folder / "logs" / "vllm.log")
        self._tasks: dict[asyncio.Task[StageState], Stage] = {}

    async def execute(self) -> Plan:
        """Carry the run out; the plan that ended it, or that waits for failures of users.

        Raises:
            InvalidRun: a run of this name exists with another specification.
            RunHeld: another process drives this run.
        """
        async with Database(self._dsn) as database:
            run_id = await register(database, self._run)
            async with RunLock(self._dsn, run_id) as lock:
                # whoever held the lock before is gone, and its processes died with it
                await free_leases(database, run_id)
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
        while True:
            states = await observe(database, run_id)
            ours = {stage.id for stage in self._tasks.values()}
            # a stage that was running when its driver died simply starts again
            known = {sid: state for sid, state in states.items() if state.phase != "running" or sid in ours}
            current = plan(self._run.spec, known, failures=await gathered(database, run_id))
            if current.phase != "Running" and not self._tasks:
                self._show(Progress(self._run, current, await stage_rows(database, run_id)))
                return current
            for stage in self._startable(current):
                attempt = 1 + (known[stage.id].attempts if stage.id in known else 0)
                await begin_stage(database, run_id, stage.id, attempt)
                self._tasks[asyncio.create_task(self._perform(database, stage, run_id, attempt))] = stage
            self._show(Progress(self._run, current, await stage_rows(database, run_id)))
            done, _ = await asyncio.wait(self._tasks, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                stage = self._tasks.pop(task)
                await end_stage(database, run_id, stage.id, task.result())
            await lock.ensure()

    def _startable(self, current: Plan) -> list[Stage]:
        """Which of the plan's stages fit on this machine now.

        Stages that need a server run alone, those first whose model is at hand; the others share the processors.
        """
        if current.phase != "Running":
            return []
        running = list(self._tasks.values())
        waiting = [stage for stage in current.start if stage.id not in {r.id for r in running}]
        playing = [stage for stage in waiting if stage.player]
        others = [stage for stage in waiting if not stage.player]
        if any(stage.player for stage in running):
            return []
        at_hand = [stage for stage in playing if stage.player and self._servers.suits(stage.player)]
        if not running and at_hand:
            return at_hand[:1]
        if others:
            return others[: max(0, _side_by_side() - len(running))]
        return playing[:1] if not running else []

    async def _perform(self, database: Database, stage: Stage, run_id: int, attempt: int) -> StageState:
        """One attempt at a stage, from its server to its result."""
        try:
            server = None
            if stage.player:
                if not self._servers.suits(stage.player):
                    unit = "waiting for the model server"
                    await report_progress(database, run_id, stage.id, done=0, total=0, unit=unit)
                server = await self._servers.serve(stage.player)
            elif has_gpu() and stage.id.kind is Kind.TRAIN:
                await self._servers.stop()  # a server takes the whole of the GPU's memory
            return await self._run_process(stage, attempt, server)
        except ModelNotFound as error:
            return StageState("failed", attempt, permanent=True, message=str(error))
        except (ServerFailed, ArtifactError) as error:
            return StageState("failed", attempt, message=str(error))

    async def _run_process(self, stage: Stage, attempt: int, server: Server | None) -> StageState:
        name = str(stage.id)
        work = self._folder / "work" / name
        work.mkdir(parents=True, exist_ok=True)
        outcome = work / "outcome.json"
        outcome.unlink(missing_ok=True)
        settings = getattr(self._run.spec.stages, stage.id.kind.value)
        workers = self._run.spec.rollout.workers if stage.player else 1
        config = StageConfig.of(
            self._run,
            stage,
            server=server,
            merge=merges(self._run.spec, gpu=has_gpu()),
            store=store_uri(self._run),
            cache=self._folder / "cache",
            work=work,
            outcome=outcome,
        )
        path = work / "config.json"
        path.write_text(config.model_dump_json(indent=1), encoding="utf-8")
        processes = []
        try:
            for index in range(workers):
                processes.append(await self._start_process(stage, path, index))
            codes = await asyncio.wait_for(
                asyncio.gather(*(process.wait() for process in processes)), settings.timeout_seconds
            )
        except TimeoutError:
            message = f"took longer than spec.stages.{stage.id.kind}.timeoutSeconds: {settings.timeout_seconds}"
            return StageState("failed", attempt, message=message)
        finally:
            await _end(processes)
        return self._state(stage.id, attempt, codes, outcome)

    async def _start_process(self, stage: Stage, config: Path, index: int) -> asyncio.subprocess.Process:
        logs = self._folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        threads = max(1, (os.cpu_count() or 1) // (_side_by_side() if stage.id.kind is Kind.TRAIN else 1))
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
                    "DISTILLERY_DATABASE": self._dsn,
                    "OMP_NUM_THREADS": str(threads),
                    "TOKENIZERS_PARALLELISM": "false",
                },
                preexec_fn=die_with_parent,
            )

    def _state(self, sid: StageId, attempt: int, codes: list[int], outcome: Path) -> StageState:
        """How an attempt ended, from exit codes, the message left and the artifact."""
        if any(codes):
            code = next(code for code in codes if code)
            left = read(outcome.read_text(encoding="utf-8"), attempt=attempt) if outcome.exists() else None
            if left and left.phase == "failed":
                return left
            log = self._folder / "logs" / f"{sid}.log"
            return StageState("failed", attempt, message=f"ended with code {code} and no word; see {log}")
        try:
            return StageState("succeeded", attempt, result=self._store.open(str(sid))[1])
        except ArtifactError as error:
            return StageState("failed", attempt, message=str(error))


def _side_by_side() -> int:
    """How many stages without a server run at once: a GPU is not shared; processors are, two of them at least."""
    return 1 if has_gpu() else min(4, os.cpu_count() or 1)


async def _end(processes: list[asyncio.subprocess.Process]) -> None:
    """Ask the processes that still run to stop, then make them."""
    alive = [process for process in processes if process.returncode is None]
    for process in alive:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    for process in alive:
        try:
            await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
