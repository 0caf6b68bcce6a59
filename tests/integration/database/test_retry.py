"""Runs that fail, are fixed, and resume by the same command: as their user does it, without a model server."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration import gate
from tests.integration.loop import Home, document, rows, wait_for


@pytest.fixture
def home(dsn: str, tmp_path: Path) -> Home:
    """With an environment whose tasks can't be prepared before a file is there, which nothing but a stage notices."""
    return Home(tmp_path, {"DISTILLERY_DATABASE_URL": dsn, **gate.install(tmp_path / "plugins")})


def gated(home: Home, name: str, **spec: Any) -> dict[str, Any]:
    run = document(name, **spec)
    run["spec"]["environment"] |= {"name": "gate", "options": {"key": str(home.folder / f"{name}.key")}}
    return run


def test_interrupted_retry_says_how_to_resume(home: Home, dsn: str):
    path, key = home.write(gated(home, "stuck")), home.folder / "stuck.key"
    assert home.call("run", path).returncode == 78
    key.write_text("stuck")
    with home.start("retry", "stuck") as process:
        running = "SELECT FROM stage WHERE name = 'prepare' AND phase = 'running'"
        wait_for("prepare to run again", lambda: bool(rows(dsn, running)), process=process)
        refused = home.call("delete", "stuck", "--yes")
        assert (refused.returncode, "run default/stuck is already running: process" in refused.stderr) == (75, True)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=300)
    assert "stopping: stages save what they need to resume" in output
    assert "interrupted; to resume: distillery retry stuck" in output
    assert process.returncode == 130
    status = " ".join(home.call("status", "stuck").stdout.split())
    assert "Interrupted." in status
    assert "It is not running; to resume: distillery retry default/stuck" in status


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


def test_delete_frees_the_name(home: Home):
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
