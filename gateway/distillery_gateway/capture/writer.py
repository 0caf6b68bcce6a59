"""The capture of users' sessions: small files in a folder, which a recorder next to the gateway empties.

The gateway faces clients, so it has no access to the database. Keeping never delays a request and never fails one:
a record without room is dropped, and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distillery_gateway.capture.redaction import Redactor
from distillery_gateway.capture.responses import words
from distillery_gateway.metrics import Metrics
from distillery_gateway.proxy.outcomes import check_session

_log = logging.getLogger(__name__)

_MAX_QUEUED = 64
_LOOK_SECONDS = 1.0  # between two looks at a full folder
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Room:
    """The limits of what is kept.

    Attributes:
        record_bytes: of one request and its answer.
        files: in the folder.
        folder_bytes: in the folder; well below what the volume may hold, for a volume that is full ends the pod.
    """

    record_bytes: int = 512_000
    files: int = 2_000
    folder_bytes: int = 64_000_000


@dataclass
class Tape:
    """A request, and its answer as it passes through.

    Attributes:
        session: as the client names it.
        alias: what it asked for.
        model: that answers.
        request: the body that was sent; empty where it is too large to be kept.
        stream: whether the answer comes event by event.
        room: bytes for the answer.
    """

    session: str
    alias: str
    model: str
    request: bytes
    stream: bool
    room: int
    _parts: list[bytes] = field(default_factory=list)

    def add(self, chunk: bytes) -> None:
        """Remember a part of the answer; once the answer is too long, keep nothing of it."""
        self.room -= len(chunk)
        if self.room >= 0:
            self._parts.append(chunk)
        else:
            self._parts.clear()

    @property
    def begun(self) -> bool:
        """True if anything was answered."""
        return bool(self._parts)

    @property
    def answer(self) -> str | None:
        """The model's words; None where the answer is broken."""
        return words(b"".join(self._parts), stream=self.stream)


class Capture:
    """The writer of sessions' requests and outcomes into a folder.

    Args:
        folder: shared with the recorder.
        redactor: takes out what is not to be kept.
        metrics: counts what is kept and what is not.
        room: how much is kept.
    """

    def __init__(self, folder: Path, redactor: Redactor, metrics: Metrics, *, room: Room | None = None) -> None:
        self._folder = folder
        self._redactor = redactor
        self._metrics = metrics
        self._room = room or Room()
        self._queue: asyncio.Queue[Tape | Mapping[str, Any]] = asyncio.Queue(_MAX_QUEUED)
        self._numbers = itertools.count()
        for left in folder.glob("*.part"):  # by a gateway that was killed
            left.unlink(missing_ok=True)
        self._looked = -_LOOK_SECONDS
        self._count()  # what an earlier gateway of the pod left lies in the same volume

    def tape(self, request: bytes, *, session: str, alias: str, model: str, stream: bool) -> Tape:
        """Return the tape for a request of a session.

        Args:
            request: the body that is sent.
            session: as the header ``X-Session-ID`` names it. Raises :class:`Refusal` where that can't be kept.
            alias: what it asked for.
            model: that answers.
            stream: whether the answer comes event by event.
        """
        named = check_session(session, "X-Session-ID")
        room = self._room.record_bytes - len(request)
        return Tape(named, alias, model, request if room >= 0 else b"", stream, room)

    def keep(self, tape: Tape) -> None:
        """Keep a request whose answer has passed through. The reader notices one that is not whole."""
        if tape.room < 0:
            self._metrics.captured.labels("too_large").inc()
        elif tape.begun:
            self._put(tape)

    def keep_outcome(self, *, session: str, alias: str, success: bool, reward: float | None, task: str) -> None:
        """Keep how a session ended."""
        self._put({"session": session, "alias": alias, "success": success, "reward": reward, "task": task})

    def _put(self, record: Tape | Mapping[str, Any]) -> None:
        try:
            self._queue.put_nowait(record)
        except asyncio.QueueFull:
            self._metrics.captured.labels("full").inc()

    async def run(self) -> None:
        """Write what is to be kept, until cancelled; a last time then, within seconds."""
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
        except Exception as error:  # whatever it is, the next is kept, and requests go on
            result = "failed"
            _log.warning("a session can't be kept: %s", type(error).__name__)
        self._metrics.captured.labels(result).inc()

    def _write(self, record: Tape | Mapping[str, Any], now: datetime) -> str:
        """Write a record in a thread; the result to count it by."""
        if isinstance(record, Tape):
            answer = record.answer
            if answer is None:
                return "unreadable"
            record = {
                "session": self._redactor.name(record.session),
                "alias": record.alias,
                "model": record.model,
                "messages": [self._plain(message) for message in json.loads(record.request)["messages"]],
                "answer": self._redactor(answer),
            }
        else:
            session, task = self._redactor.name(record["session"]), self._redactor(record["task"])
            record = {**record, "session": session, "task": task}
        text = json.dumps({**record, "time": now.isoformat()})
        if not self._has_room(len(text)):
            return "full"
        # never made of what a client said, and in the order of time
        path = self._folder / f"{time.time_ns():020d}-{next(self._numbers)}.json"
        part = path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.rename(path)
        self._files, self._bytes = self._files + 1, self._bytes + len(text)
        return "kept"

    def _plain(self, message: Any) -> dict[str, str]:
        """A message's role and text; pictures, tools and the rest are not kept."""
        if not isinstance(message, Mapping):
            return {"role": "", "content": ""}
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(t for p in content if isinstance(p, Mapping) and isinstance(t := p.get("text"), str))
        text = self._redactor(content) if isinstance(content, str) else ""
        return {"role": str(message.get("role", ""))[:16], "content": text}

    def _has_room(self, size: int) -> bool:
        """Whether one more file fits. Counts what was written, and looks at the folder only where that is too much."""
        if self._fits(size):
            return True
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return False
        self._looked = now
        self._count()
        return self._fits(size)

    def _count(self) -> None:
        sizes = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # the recorder took it meanwhile
                sizes.append(path.stat().st_size)
        self._files, self._bytes = len(sizes), sum(sizes)

    def _fits(self, size: int) -> bool:
        return self._files < self._room.files and self._bytes + size <= self._room.folder_bytes
