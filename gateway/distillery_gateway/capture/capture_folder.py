"""The folder of captured records: its limits, and the files in it."""

from __future__ import annotations

import contextlib
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 1.0  # between two counts of a full folder


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """The limits of captured records.

    Attributes:
        record_bytes: of one request and its response.
        files: in the folder.
        folder_bytes: in the folder; well below what the volume may hold, for a volume that is full ends the pod.
    """

    record_bytes: int = 512_000
    files: int = 2_000
    folder_bytes: int = 64_000_000


class CaptureFolder:
    """A folder that the gateway fills and the recorder empties.

    Args:
        path: of the folder.
        limits: on what lies in it.
    """

    def __init__(self, path: Path, limits: CaptureLimits) -> None:
        self._path = path
        self._limits = limits
        self._numbers = itertools.count()
        for unfinished in path.glob("*.part"):  # by a gateway that was killed
            unfinished.unlink(missing_ok=True)
        self._counted_at = -_POLL_SECONDS
        self._count()  # files that an earlier gateway of the pod left lie in the same volume

    def write(self, text: str) -> bool:
        """Write a record into a file of its own. Return False if the folder is full."""
        if not self._has_capacity(len(text)):
            return False
        # the name is never made of a client's words, and files are in the order of time
        path = self._path / f"{time.time_ns():020d}-{next(self._numbers)}.json"
        part = path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.rename(path)
        self._files, self._bytes = self._files + 1, self._bytes + len(text)
        return True

    def _has_capacity(self, size: int) -> bool:
        """Return whether one more file fits. Reads the folder only if the files written so far are too many."""
        if self._fits(size):
            return True
        now = time.monotonic()
        if now - self._counted_at < _POLL_SECONDS:
            return False
        self._counted_at = now
        self._count()
        return self._fits(size)

    def _count(self) -> None:
        sizes = list[int]()
        for path in self._path.iterdir():
            with contextlib.suppress(FileNotFoundError):  # the recorder took it meanwhile
                sizes.append(path.stat().st_size)
        self._files, self._bytes = len(sizes), sum(sizes)

    def _fits(self, size: int) -> bool:
        return self._files < self._limits.files and self._bytes + size <= self._limits.folder_bytes
