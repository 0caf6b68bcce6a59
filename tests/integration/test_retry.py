"""Runs that fail, are fixed, and resume by the same command: as their user does it, without a model server."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from distillery.database.embedded import EmbeddedPostgres
from tests.integration.loop import Home, document, rows, wait_for

MODULE = """
from pathlib import Path

from distillery.environments.base import Environment, EnvironmentConfigurationError, Task


class Gate(Environment):
    name = "gate"
    instructions = "Open the gate."

    def __init__(self, options, folder):
        self.key = Path(options["key"])

    def prepare(self, wanted, *, report=lambda done, total: None):
        if not self.key.exists():
            raise EnvironmentConfigurationError(f"the key {self.key} is not there")

    def catalogue(self, split):
        return [Task(f"{split}/{number}", split, "gate", f"open gate {number}") for number in range(9)]

    def open(self, task):
        raise NotImplementedError

    def read(self, opening, steps):
        return ()
"""


@pytest.fixture(scope="module")
def home(folder: Path) -> Home:
    """With an environment whose tasks can't be prepared before a file is there, which nothing but a stage notices."""
    plugins = folder / "plugins"
    information = plugins / "gate-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: gate\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[distillery.environments]\ngate = gate:Gate\n")
    (plugins / "gate.py").write_text(MODULE)
    return Home(folder, {"PYTHONPATH": os.pathsep.join(filter(None, [str(plugins), os.environ.get("PYTHONPATH", "")]))})


@pytest.fixture(scope="module")
def dsn(home: Home) -> Generator[str]:
    """The home's database, kept open, so that no command has to start it."""
    with EmbeddedPostgres(home.folder / "home" / "postgres") as server:
        yield server.dsn


def gated(home: Home, name: str, **spec: Any) -> dict[str, Any]:
    run = document(name, **spec)
    run["spec"]["environment"] = {
        "name": "gate",
        "tasks": {"train": 4, "evaluate": 6, "evaluateSplit": "test"},
        "options": {"key": str(home.folder / f"{name}.key")},
    }
    return run


def prepare_of(dsn: str, name: str) -> str:
    """How the run's stage prepare stands."""
    query = "SELECT stage.phase FROM stage JOIN run ON run.id = run_id WHERE key = %s AND name = 'prepare'"
    return next((row["phase"] for row in rows(dsn, query, f"default/{name}")), "")


def test_run_resumes_at_once_when_the_cause_was_removed(home: Home, dsn: str):
    path, key = home.write(gated(home, "fixed")), home.folder / "fixed.key"
    failed = home.call("run", path)
    assert failed.returncode == 78
    assert f"Stage prepare failed after 1 attempt: the key {key} is not there" in failed.stderr
    assert f"Fix the cause; to resume: distillery run {path}" in failed.stderr
    status = " ".join(home.call("status", "fixed").stdout.split())
    assert "Failed. Stage prepare failed after 1 attempt" in status
    assert "To try again: distillery retry default/fixed" in status

    key.touch()
    with home.start("retry", "fixed") as process:
        wait_for("prepare to succeed", lambda: prepare_of(dsn, "fixed") == "succeeded", process=process)
        refused = home.call("delete", "fixed", "--yes")
        assert (refused.returncode, "run default/fixed is driven by process" in refused.stderr) == (75, True)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=300)
    assert "stopping: stages save what they need to resume" in output
    assert "interrupted; to resume: distillery retry fixed" in output
    assert process.returncode == 130
    status = " ".join(home.call("status", "fixed").stdout.split())
    assert "Interrupted. Round 1 of 1" in status
    assert "Nobody drives it now; to resume: distillery retry default/fixed" in status


def test_run_takes_another_document_when_only_prepare_began(home: Home, dsn: str):
    run = gated(home, "edited")
    assert "the key" in home.call("run", home.write(run)).stderr
    run["spec"]["training"]["seed"] = 7
    run["spec"]["environment"]["options"]["key"] = "/nowhere/key"
    failed = home.call("run", home.write(run))
    assert failed.returncode == 78
    assert "the key /nowhere/key is not there" in failed.stderr
    (row,) = rows(dsn, "SELECT document FROM run WHERE key = 'default/edited'")
    assert row["document"]["spec"]["training"]["seed"] == 7


def test_delete_frees_the_name(home: Home, dsn: str):
    assert home.call("run", home.write(gated(home, "gone"))).returncode == 78
    kept = home.folder / "home" / "runs" / "default" / "gone"
    assert (kept / "logs").is_dir()
    unsure = home.call("delete", "gone")
    assert unsure.returncode == 1
    assert f"delete run default/gone for good: 0 episodes, 0 hints, the folder {kept}? Add --yes" in unsure.stderr
    assert kept.exists()
    deleted = home.call("delete", "gone", "--yes")
    assert (deleted.returncode, "run default/gone is deleted" in deleted.stdout) == (0, True)
    assert not kept.exists()
    unknown = home.call("status", "gone")
    assert (unknown.returncode, "there is no run default/gone" in unknown.stderr) == (1, True)
