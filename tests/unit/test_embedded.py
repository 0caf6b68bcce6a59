"""The embedded Postgres: servers of one machine start one after the other."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from distillery.database.embedded import _alone


def test_one_starts_at_a_time(tmp_path: Path):
    library = tmp_path / "library.py"
    library.touch()
    starting: list[int] = []

    def start(number: int) -> list[int]:
        with _alone(library):
            starting.append(number)
            time.sleep(0.02)
            together = list(starting)
            starting.remove(number)
        return together

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(start, range(4))) == [[0], [1], [2], [3]]
