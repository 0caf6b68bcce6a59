"""What tests start is counted, in whichever process it is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.counting import sitecustomize as counting

VLLM = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--port", "1"]
START = "import asyncio, sys; asyncio.run(asyncio.create_subprocess_exec('true', 'vllm.entrypoints.openai.api_server'))"


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (VLLM, counting.MODEL_SERVERS),
        ((Path("/pg/bin/initdb"), "-D", "/data"), counting.DATABASES),
        ("/pg/bin/initdb -D /data", counting.DATABASES),
        ([b"/pg/bin/initdb"], counting.DATABASES),
        (["/pg/bin/pg_ctl", "start"], ""),
        (["python", "-c", "print('initdb is no word of its own')"], ""),
        (None, ""),
    ],
)
def test_kind_of_recognizes_servers_by_their_command(command: Any, kind: str):
    assert counting.kind_of(command) == kind


def test_servers_that_a_subprocess_starts_are_counted_once(tmp_path: Path):
    here = str(Path(counting.__file__).parent)
    environment = {**os.environ, counting.FOLDER: str(tmp_path), "PYTHONPATH": here}
    subprocess.run([sys.executable, "-c", START], env=environment, check=True)
    assert [path.name for path in tmp_path.iterdir()] == [counting.MODEL_SERVERS]
    (line,) = (tmp_path / counting.MODEL_SERVERS).read_text().splitlines()
    assert line.endswith("::test_servers_that_a_subprocess_starts_are_counted_once")


SERVERS = """
import subprocess
import pytest

@pytest.mark.parametrize("number", range(5))
def test_started_server(number):
    subprocess.run(["true", "initdb"], check=True)
"""


def test_pytest_fails_when_tests_start_too_many_servers(tmp_path: Path):
    (tmp_path / "test_servers.py").write_text(SERVERS)
    (tmp_path / "conftest.py").write_text("from tests.conftest import *  # noqa: F403\n")
    environment = {name: value for name, value in os.environ.items() if name != counting.FOLDER}
    root = Path(__file__).parents[3]
    places = [f"--config-file={root / 'pyproject.toml'}", f"--rootdir={tmp_path}", tmp_path]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "not slow", "--numprocesses=2", *places],
        cwd=root, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "5 passed" in done.stdout
    assert "model servers: 0 of at most 5" in done.stdout
    assert "Postgres instances: 5 of at most 4" in done.stdout
    assert "TOO MANY Postgres instances: test_servers.py::test_started_server[0]" in done.stdout
