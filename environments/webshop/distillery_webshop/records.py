"""Many small byte strings in two files, read through a memory map: all processes share one copy, the page cache's.

NAME.bin holds the records one after the other, NAME.offsets where each begins and the last ends (8 bytes each, in the
byte order of little-endian machines).
"""

from __future__ import annotations

import mmap
import sys
from array import array
from pathlib import Path

assert sys.byteorder == "little", "the files are mapped as they are"

_FLUSH = 1 << 16  # offsets kept back before they are written


class RecordsWriter:
    """A writer of records, as a context manager. What isn't closed can't be read."""

    def __init__(self, folder: Path, name: str) -> None:
        """Create the files of ``name``."""
        self._data = (folder / f"{name}.bin").open("wb", buffering=1 << 20)
        self._offsets = (folder / f"{name}.offsets").open("wb")
        self._pending = array("q", [0])
        self._end = 0

    def __enter__(self) -> RecordsWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._pending.tofile(self._offsets)
        self._offsets.close()
        self._data.close()

    def append(self, record: bytes) -> None:
        """Add a record."""
        self._data.write(record)
        self._end += len(record)
        self._pending.append(self._end)
        if len(self._pending) >= _FLUSH:
            self._pending.tofile(self._offsets)
            del self._pending[:]


class Records:
    """Records by their number. Opens in no time, however many there are."""

    def __init__(self, folder: Path, name: str) -> None:
        """Map the files of ``name``."""
        self._data = map_file(folder / f"{name}.bin")
        self._offsets = memoryview(map_file(folder / f"{name}.offsets")).cast("q")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, number: int) -> bytes:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._data[self._offsets[number] : self._offsets[number + 1]]


def map_file(file: Path) -> mmap.mmap | bytes:
    """Map a file into memory; an empty file, which can't be mapped, gives empty bytes."""
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if file.stat().st_size else b""
