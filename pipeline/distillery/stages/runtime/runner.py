"""The process of a stage: read the configuration, run the stage, publish its result, exit with the right code."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from distillery.core.artifacts import ArtifactError, Identity, store_at
from distillery.core.artifacts.drafts import ORPHANED_SECONDS
from distillery.core.contracts import stage_result
from distillery.core.contracts.stage_config import StageConfig
from distillery.core.planner import StagePhase, StageResult, StageState
from distillery.database import Database, dsn_from_environment
from distillery.database.runs import RunStore
from distillery.database.stages import StageStore, read_results
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.failures import StageFailure, Terminated, exit_code_of, is_permanent
from distillery.stages.runtime.progress_server import Status

_log = logging.getLogger(__name__)

Result = Mapping[str, Any]
"""The fields that a stage adds to the manifest of its artifact."""

StageMain = Callable[[StageContext], Awaitable[tuple[Result, Path | None]]]
"""The function of a stage: returns its result, and the draft of its artifact if there are files."""


def run_stage(main: StageMain) -> None:
    """Run a stage module's ``main`` as a process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    config = StageConfig.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    code = 0
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(execute(main, config))
    except Exception as error:
        code, permanent = exit_code_of(error), is_permanent(error)
        is_expected = permanent or isinstance(error, Terminated)
        _log.error("stage %s: %s", config.stage, error, exc_info=not is_expected)
        stage_result.write_failure(config.outcome, str(error) or type(error).__name__, permanent=permanent)
    sys.exit(code)


async def execute(main: StageMain, config: StageConfig) -> None:
    """Run a stage and write its result. Raises :class:`Terminated` after SIGTERM."""
    task = asyncio.current_task()
    assert task is not None
    stop = threading.Event()

    def terminate() -> None:
        stop.set()
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        async with Database(_dsn()) as database, Status(config.stage) as status:
            manifest = await _run(main, config, database, status, stop)
    except asyncio.CancelledError as error:
        raise Terminated("stopped on request") from error
    stage_result.write_success(config.outcome, manifest)
    _log.info("stage %s is done", config.stage)


async def _run(
    main: StageMain, config: StageConfig, database: Database, status: Status, stop: threading.Event
) -> dict[str, Any]:
    """Run a stage, publish its artifact, and return the manifest."""
    stage, identity = config.stage_id, Identity.parse(config.identity)
    run_id = await RunStore(database).register(config.run, uid=identity.uid)
    stages = StageStore(database, run_id)
    if config.retry:
        await stages.forget_failure(config.run.spec, stage, request=config.retry)
    store = store_at(
        config.store,
        identity,
        cache=config.cache,
        endpoint_url=config.store_endpoint,
        recorded=read_results(await stages.read()),
    )
    if config.persist_status:
        await stages.begin(stage, 1)
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
    await asyncio.to_thread(delete_checkpoints, context)
    if config.persist_status:
        await stages.end(stage, StageState(StagePhase.SUCCEEDED, result=StageResult.read(manifest)))
    return manifest


def delete_checkpoints(context: StageContext) -> None:
    """Delete the checkpoints of a stage whose result is published; a store that fails keeps them."""
    shutil.rmtree(context.checkpoints, ignore_errors=True)
    try:
        context.store.forget(context.config.stage)
    except ArtifactError as error:
        _log.warning("a checkpoint stays in the store: %s", error)


def _dsn() -> str:
    """Return the connection string of the run's database. Raises :class:`StageFailure` without one."""
    dsn = dsn_from_environment()
    if not dsn:
        raise StageFailure("name a database in DISTILLERY_DATABASE_URL or DISTILLERY_DATABASE_URL_FILE")
    return dsn


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the event loop of a stage."""
    import uvloop

    return uvloop.new_event_loop
