"""Runs that fail, are fixed, and resume by the same command: as their user does it, without a model server."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from distillery.database.embedded import EmbeddedPostgres
from tests.integration.loop import Home, document, rows, wait_for

ENDPOINT = {"baseURL": "http://127.0.0.1:1/v1", "model": "m", "apiKeySecretRef": {"name": "openai", "key": "token"}}


@pytest.fixture(scope="module")
def home(folder: Path) -> Home:
    return Home(folder, {"DISTILLERY_SECRETS": str(folder / "secrets")})


@pytest.fixture(scope="module")
def server(home: Home) -> Any:
    """Kept open, so that no command has to start it."""
    with EmbeddedPostgres(home.folder / "home" / "postgres") as made:
        yield made


def broken(name: str, **spec: Any) -> dict[str, Any]:
    """A run that needs a secret, and fails early in any case: it has an environment that is not installed."""
    run = document(name, **spec)
    run["spec"]["models"]["extractor"] = {"endpoint": ENDPOINT}
    run["spec"]["environment"] = {"name": "hous"}
    return run


def test_run_sees_at_once_when_a_cause_was_removed(home: Home, server: EmbeddedPostgres):
    """One cause after the other is removed outside of the document, and in it."""
    run = document("fixed")
    run["spec"]["models"]["extractor"] = {"endpoint": ENDPOINT}
    path = home.write(run)
    failed = home.call("run", path)
    assert failed.returncode == 78
    assert "secret openai, key token: no such file" in failed.stderr
    assert f"Fix the cause; to resume: distillery run {path}" in failed.stderr
    status = home.call("status", "fixed").stdout
    assert "Failed. Stage prepare failed after 1 attempt: secret openai" in status.replace("\n", " ")
    assert "To try again: distillery retry default/fixed" in status.replace("\n", " ")

    secret = home.folder / "secrets" / "openai" / "token"
    secret.parent.mkdir(parents=True)
    secret.write_text("sk-1")
    with home.start("retry", "fixed") as process:
        wait_for("prepare to succeed", lambda: phase_of(server, "fixed") == "succeeded", process=process)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=120)
    assert "stopping: stages save what they need to resume" in told
    assert "interrupted; to resume: distillery retry fixed" in told
    assert process.returncode == 130


def phase_of(server: EmbeddedPostgres, name: str) -> str:
    found = rows(
        server.dsn,
        "SELECT stage.phase FROM stage JOIN run ON run.id = run_id WHERE key = %s AND name = 'prepare'",
        f"default/{name}",
    )
    return found[0]["phase"] if found else ""


def test_run_accepts_another_document_when_only_prepare_began(home: Home, server: EmbeddedPostgres):
    wrong = document("edited", agent={"name": "reactt"})
    assert "no agent 'reactt' is installed" in home.call("run", home.write(wrong)).stderr
    wrong["spec"] |= {"agent": {"name": "plain"}, "models": {"student": {"model": "/nowhere"}}}
    told = home.call("run", home.write(wrong)).stderr
    assert "model /nowhere: there is no such folder" in told
    (row,) = rows(server.dsn, "SELECT document FROM run WHERE key = 'default/edited'")
    assert row["document"]["spec"]["agent"]["name"] == "plain"


def test_delete_frees_the_name(home: Home, server: EmbeddedPostgres):
    path = home.write(broken("gone"))
    assert home.call("run", path).returncode == 78
    kept = home.folder / "home" / "runs" / "default" / "gone"
    assert (kept / "logs").is_dir()
    unsure = home.call("delete", "gone")
    assert unsure.returncode == 1
    assert f"delete run default/gone for good: 0 episodes, 0 hints, the folder {kept}? Add --yes" in unsure.stderr
    assert kept.exists()
    deleted = home.call("delete", "gone", "--yes")
    assert deleted.returncode == 0
    assert "run default/gone is deleted" in deleted.stdout
    assert not kept.exists()
    assert rows(server.dsn, "SELECT 1 FROM run WHERE key = 'default/gone'") == []
    again = home.call("status", "gone")
    assert (again.returncode, "there is no run default/gone" in again.stderr) == (1, True)


def test_delete_refuses_when_a_process_drives_the_run(home: Home, server: EmbeddedPostgres):
    path = home.write(document("busy"))
    with home.start("run", path) as process:
        wait_for("prepare to start", lambda: phase_of(server, "busy") != "", process=process)
        refused = home.call("delete", "busy", "--yes")
        assert refused.returncode == 75
        assert "run default/busy is driven by process" in refused.stderr
        process.kill()
