"""The capture of users' sessions: small files in a folder, which a recorder next to the gateway empties.

The gateway faces clients, so it has no access to the database. Capture never delays a request and never fails one: a
record for which there is no capacity is dropped, and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from distillery.core.contracts.capture import CapturedOutcome
from distillery_gateway.capture.capture_folder import CaptureFolder, CaptureLimits
from distillery_gateway.capture.redaction import Redactor
from distillery_gateway.capture.session_record import SessionRecord
from distillery_gateway.metrics import Metrics
from distillery_gateway.sessions import check_session

_log = logging.getLogger(__name__)

_MAX_QUEUED = 64
_CLOSE_SECONDS = 5.0


class Capture:
    """The writer of sessions' requests and outcomes into a folder.

    Args:
        folder: shared with the recorder.
        redactor: removes secrets.
        metrics: counts the records that are written and dropped.
        limits: on the records.
    """

    def __init__(
        self, folder: Path, redactor: Redactor, metrics: Metrics, *, limits: CaptureLimits | None = None
    ) -> None:
        self._redactor = redactor
        self._metrics = metrics
        self._limits = limits or CaptureLimits()
        self._folder = CaptureFolder(folder, self._limits)
        self._queue: asyncio.Queue[SessionRecord | CapturedOutcome] = asyncio.Queue(_MAX_QUEUED)

    def start_record(self, request: bytes, *, session: str, alias: str, model: str, stream: bool) -> SessionRecord:
        """Return the record for a request of a session, which observes the response.

        Args:
            request: the body that is sent.
            session: as the header ``X-Session-ID`` names it. Raises :class:`ApiError` if the name is invalid.
            alias: the model's name for clients.
            model: the student that answers.
            stream: whether the response comes event by event.
        """
        name = check_session(session, "X-Session-ID")
        bytes_left = self._limits.record_bytes - len(request)
        return SessionRecord(name, alias, model, request if bytes_left >= 0 else b"", stream, bytes_left)

    def add_record(self, record: SessionRecord) -> None:
        """Queue a request whose response has passed through; a broken response is noticed when it is written.

        A client may leave at the last word, so the text of the response shows whether it is whole.
        """
        if record.is_too_large:
            self._metrics.captured.labels("too_large").inc()
        elif record.has_response:
            self._put(record)

    def add_outcome(self, outcome: CapturedOutcome) -> None:
        """Queue the outcome of a session."""
        self._put(outcome)

    def _put(self, record: SessionRecord | CapturedOutcome) -> None:
        try:
            self._queue.put_nowait(record)
        except asyncio.QueueFull:
            self._metrics.captured.labels("full").inc()

    async def run(self) -> None:
        """Write the queue into the folder, until cancelled; then write the rest of it, within seconds."""
        try:
            while True:
                await self._write_next()
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    while not self._queue.empty():
                        await self._write_next()
            raise

    async def _write_next(self) -> None:
        record, now = await self._queue.get(), datetime.now(UTC)
        try:
            result = await asyncio.to_thread(self._write, record, now)
        except Exception as error:  # whatever it is, the next record is written, and requests continue
            result = "failed"
            _log.warning("a session can't be kept: %s", type(error).__name__)
        self._metrics.captured.labels(result).inc()

    def _write(self, record: SessionRecord | CapturedOutcome, now: datetime) -> str:
        """Write a record in a thread. Return the result to count it by."""
        redacted = record.redact(self._redactor, now) if isinstance(record, SessionRecord) else self._redact(record)
        if redacted is None:
            return "unreadable"
        return "kept" if self._folder.write(redacted.dump()) else "full"

    def _redact(self, outcome: CapturedOutcome) -> CapturedOutcome:
        return replace(outcome, session=self._redactor.name(outcome.session), task=self._redactor(outcome.task))
