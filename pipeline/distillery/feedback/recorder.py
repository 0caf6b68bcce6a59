"""The recorder next to a gateway: moves the files that the gateway leaves in a folder into the run's database, and
keeps them there as long as allowed. It alone in a serving pod has access to the database, and no client reaches it.

    python -m distillery.feedback.recorder
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distillery.core import probes
from distillery.core.contracts.capture import CapturedOutcome, CapturedRequest, InvalidRecord
from distillery.core.settings import EnvironmentSettings, parse_integer, variable
from distillery.database import Database, DatabaseAway, DatabaseError, DatabaseRefused, DataError
from distillery.database.migrate import MigrationError, UnknownRevision, migrate
from distillery.database.runs import RunStore, UnknownRun
from distillery.database.sessions import SessionStore
from distillery.feedback.record import read

_log = logging.getLogger(__name__)

_AWAY = (DatabaseAway, DatabaseRefused, MigrationError, OSError, UnknownRun, DatabaseError)

_POLL_SECONDS = 1.0
_COUNT_SECONDS = 5.0
_EXPIRE_SECONDS = 600.0
_MAX_WAIT = 60.0
_BATCH = 50
_PATIENCE = 5.0  # of one try; the loop repeats it
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Settings(EnvironmentSettings):
    """The settings of the recorder.

    Attributes:
        dsn: connection string of the run's database.
        run: NAMESPACE/NAME.
        capture: folder that the gateway writes into.
        retention_days: days without a new record after which a session is deleted.
        max_sessions: number of sessions that are kept.
        port: for /healthz, and /state: {"failures": 31, "waiting": 0, "dropped": 0, "problem": ""}.
    """

    dsn: str = field(
        repr=False, metadata=variable("DISTILLERY_DATABASE_URL", missing="name a database in one of them", secret=True)
    )
    run: str = field(metadata=variable("DISTILLERY_RUN", missing="name the run as NAMESPACE/NAME"))
    capture: Path = field(
        metadata=variable("DISTILLERY_CAPTURE_DIR", Path, missing="name the folder that the gateway writes into")
    )
    retention_days: int = field(
        metadata=variable("DISTILLERY_RETENTION_DAYS", parse_integer, missing="write a number of days")
    )
    max_sessions: int = field(
        metadata=variable("DISTILLERY_MAX_SESSIONS", parse_integer, missing="write the number of sessions to keep")
    )
    port: int = field(default=8004, metadata=variable("DISTILLERY_RECORDER_PORT", parse_integer))


class Recorder:
    """A recorder that moves the files of the folder into the database.

    Args:
        settings: the recorder's.
        database: open; with little patience, for the loop tries again itself.

    Attributes:
        problem: why nothing is recorded; empty if all is well.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._run_id: int | None = None
        self._counted = self._expired = -_EXPIRE_SECONDS
        self._dropped = 0
        self._failures = 0
        self.problem = ""

    def state(self) -> Mapping[str, Any]:
        """Return the document that /state serves."""
        waiting = sum(1 for _ in self._settings.capture.glob("*.json"))
        return {"failures": self._failures, "waiting": waiting, "dropped": self._dropped, "problem": self.problem}

    async def run(self) -> None:
        """Record until cancelled; while the database is away, try again after longer and longer times."""
        wait = _POLL_SECONDS
        while True:
            try:
                await self.poll()
                self.problem, wait = "", _POLL_SECONDS
            except Exception as error:  # a recorder that ends would end its pod's readiness
                self._fail(error)
                wait = min(wait * 2, _MAX_WAIT)
            await asyncio.sleep(wait)

    def _fail(self, error: Exception) -> None:
        """Log the kind of the error, and no more: errors quote connection strings and texts of users."""
        self._failures, self._counted = 0, -_COUNT_SECONDS  # the last count would start a round that finds no session
        problem = (
            str(error).strip()
            if isinstance(error, DatabaseAway | DatabaseRefused | UnknownRun)
            else type(error).__name__
        )
        if problem != self.problem:
            where = "" if isinstance(error, _AWAY) else "\n" + "".join(traceback.format_tb(error.__traceback__))
            _log.warning("nothing is recorded: %s%s", problem, where)
        self.problem = problem
        if not isinstance(error, DatabaseAway | OSError):
            self._run_id = None  # the database may be another one

    async def poll(self) -> None:
        """Record the files of the folder; delete old sessions and count failures when it is time to."""
        if self._run_id is None:
            await self._find_run()
        run_id = self._run_id
        assert run_id is not None
        await self.drain(run_id)
        now = time.monotonic()
        if now - self._expired >= _EXPIRE_SECONDS:
            settings = self._settings
            deleted = await SessionStore(self._database, run_id).expire(
                days=settings.retention_days, max_sessions=settings.max_sessions
            )
            if deleted:
                _log.info("%d sessions were deleted, too old or too many", deleted)
            self._expired = now
        if now - self._counted >= _COUNT_SECONDS:
            self._failures, self._counted = await SessionStore(self._database, run_id).count_pending_failures(), now

    async def _find_run(self) -> None:
        """Migrate the schema, for a run that ended before this version starts no Job for it; find the run."""
        try:
            await asyncio.to_thread(migrate, self._settings.dsn)
        except UnknownRevision as error:  # a schema newer than this version
            _log.warning("the schema is left as it is: %s", error)
        self._run_id = (await RunStore(self._database).find(self._settings.run))["id"]

    async def drain(self, run_id: int) -> None:
        """Empty the folder. A file without a record, or whose record the database refuses, is dropped and counted."""
        while paths := sorted(self._settings.capture.glob("*.json"))[:_BATCH]:
            records = {path: document for path in paths if (document := self._read(path))}
            try:
                await SessionStore(self._database, run_id).record(list(records.values()))
            except DataError:
                for path, document in records.items():
                    try:
                        await SessionStore(self._database, run_id).record([document])
                    except DataError as error:
                        self._drop(path, error)
            for path in paths:
                path.unlink(missing_ok=True)

    def _read(self, path: Path) -> CapturedRequest | CapturedOutcome | None:
        try:
            return read(path.read_text(encoding="utf-8"))
        except (InvalidRecord, UnicodeDecodeError) as error:
            self._drop(path, error)
            return None

    def _drop(self, path: Path, error: Exception) -> None:
        """Count and log a file that can't be recorded. The error may quote the file, so its kind alone is logged."""
        self._dropped += 1
        _log.warning("%s is dropped: %s", path.name, type(error).__name__)


async def _run(settings: Settings) -> None:
    task = asyncio.current_task()
    assert task is not None
    # the first process of a container is not ended by a signal that it does not handle
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with Database(settings.dsn, patience=_PATIENCE, size=1) as database:
        recorder = Recorder(settings, database)
        server = probes.serve(settings.port, checks={"/healthz": probes.is_alive}, documents={"/state": recorder.state})
        async with server:
            try:
                await recorder.run()
            finally:
                # the gateway has ended, and its last files are in the folder
                with contextlib.suppress(TimeoutError, *_AWAY):
                    async with asyncio.timeout(_CLOSE_SECONDS):
                        await recorder.poll()


def main() -> None:
    """Record until the process is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # its warnings quote connection strings
    try:
        settings = Settings.from_environment()
    except ValueError as error:
        sys.exit(str(error))
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_run(settings))


if __name__ == "__main__":
    main()
