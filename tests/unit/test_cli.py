"""The command line teaches, and its exit codes tell what kind of end it was."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillery.artifacts.folder import FolderStore
from distillery.cli import main as commands
from distillery.cli.main import main, parser
from distillery.models import ModelNotFound
from tests.unit.documents import document

COMMANDS = ("run", "retry", "delete", "validate", "status", "report", "hints", "serve", "promote", "rollback")


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(document()))
    return path


def test_the_help_shows_every_command_examples_and_exit_codes():
    text = parser().format_help()
    for word in (*COMMANDS, "DISTILLERY_HOME", "exit codes", "examples:"):
        assert word in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]):
    assert call(command, "--help") == 0
    assert len(capsys.readouterr().out.splitlines()) >= 5


def test_a_valid_document_is_summed_up(file: Path, capsys: pytest.CaptureFixture[str]):
    assert call("validate", "--offline", str(file)) == 0
    assert (
        "is valid: run default/test, alfworld with react, 1200 training and 134 held-out tasks"
        in capsys.readouterr().out
    )


def test_an_invalid_document_is_a_configuration_error_with_every_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    wrong: dict[str, Any] = document(rounds={"max": 0}, agent={"nmae": "react"})
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(wrong))
    assert call("validate", str(path)) == 78
    told = capsys.readouterr().err
    assert "spec.rounds.max: 0: write 1 or more" in told
    assert 'spec.agent.nmae: "react": unknown field; did you mean name?' in told


def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str]):
    assert call("frobnicate") == 2
    assert call("report") == 2
    assert call("status", "--watch") == 2
    assert "needs the name of a run" in capsys.readouterr().err
    assert call("report", "x", "--json", "--markdown") == 2
    assert "not allowed with" in capsys.readouterr().err


def test_a_model_that_has_gone_since_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    async def serve(_: object) -> int:
        raise ModelNotFound("model /gone: there is no such folder")

    monkeypatch.setitem(commands._COMMANDS, "serve", serve)
    assert call("serve", "run") == commands.EXIT_FAILED
    assert capsys.readouterr().err == "model /gone: there is no such folder\n"


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake kubectl: it writes down what it is asked, and prints what lies in its answer."""
    program = tmp_path / "kubectl"
    program.write_text(f"""#!/bin/sh
echo "$@" >> {tmp_path}/asked
cat {tmp_path}/answer 2>/dev/null
test ! -e {tmp_path}/refusal || {{ cat {tmp_path}/refusal >&2; exit 1; }}
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


KIND = "distillationruns.distillery.dev"


@pytest.mark.parametrize(
    ("arguments", "number", "where"),
    [
        (["promote", "a", "--round", "2"], "2", ""),
        (["promote", "team/a", "--context", "prod"], "null", " --namespace=team --context=prod"),
    ],
)
def test_a_promotion_is_a_patch_of_the_resource(arguments: list[str], number: str, where: str, kubectl: Path):
    (kubectl / "answer").write_text("{}")
    assert call(*arguments) == 0
    patch = f'{{"spec": {{"promotion": {{"round": {number}}}}}}}'
    assert (kubectl / "asked").read_text() == f"patch {KIND} a --type=merge --patch={patch} --output=json{where}\n"


TRIAL = {"student": "2abc", "round": 2, "step": 1, "steps": 3, "weight": 10, "shadow": False, "outcome": "Running"}


@pytest.mark.parametrize(
    ("arguments", "patch", "told"),
    [
        ("promote a", '{"round": null}', "in step 1 of 3, with 10 % of the sessions; --round 2 has it served to all"),
        ("promote a --round 2", '{"round": 2}', "the canary of student 2abc ends, and the student of round 2 is to be"),
        ("rollback a", '{"round": 1}', "the canary of student 2abc ends, and the student of round 1 is to be served"),
        ("pause a", '{"canary": {"paused": true}}', "with 10 % of the sessions, and stays there"),
        ("resume a", '{"canary": {"paused": false}}', "with 10 % of the sessions, and goes on from there"),
    ],
)
def test_what_is_done_to_a_canary_is_told(
    arguments: str, patch: str, told: str, kubectl: Path, capsys: pytest.CaptureFixture[str]
):
    history = [{"student": "1abc", "round": 1}, {"student": "base", "round": 0}]
    (kubectl / "answer").write_text(json.dumps({"status": {"serving": {"history": history, "canary": TRIAL}}}))
    assert call(*arguments.split()) == 0
    assert told in capsys.readouterr().out
    assert patch in (kubectl / "asked").read_text().splitlines()[-1]


@pytest.mark.parametrize(("command", "told"), [("pause", "waits in its first step"), ("resume", "does not wait")])
def test_without_a_newcomer_a_pause_is_for_the_next(
    command: str, told: str, kubectl: Path, capsys: pytest.CaptureFixture[str]
):
    ended = {"serving": {"history": [], "canary": {**TRIAL, "outcome": "Failed"}}}
    (kubectl / "answer").write_text(json.dumps({"status": ended}))
    assert call(command, "a") == 0
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(("rounds", "number"), [([3, 2, 1], 2), ([3, 0], 0), ([1], 0), ([2, 2, 1], 1)])
def test_a_rollback_goes_to_what_was_served_before(rounds: list[int], number: int, kubectl: Path):
    history = [{"student": "x", "round": served} for served in rounds]
    (kubectl / "answer").write_text(json.dumps({"status": {"serving": {"history": history}}}))
    assert call("rollback", "a") == 0
    got, patched = (kubectl / "asked").read_text().splitlines()
    assert got == f"get {KIND} a --output=json"
    assert f'{{"round": {number}}}' in patched


@pytest.fixture
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run of this machine, and not even a database."""
    monkeypatch.setenv("DISTILLERY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DISTILLERY_DATABASE", raising=False)


def test_retry_annotates_the_run_when_it_is_on_a_cluster(
    nothing_here: None, kubectl: Path, capsys: pytest.CaptureFixture[str]
):
    (kubectl / "answer").write_text(json.dumps({"status": {"phase": "Failed"}}))
    assert call("retry", "team/a") == 0
    got, annotated = (kubectl / "asked").read_text().splitlines()
    assert got == f"get {KIND} a --output=json --namespace=team"
    pattern = rf"annotate {KIND} a --overwrite distillery\.dev/retry-requested=20\S+\+00:00 --namespace=team"
    assert re.fullmatch(pattern, annotated)
    assert "the failed stages of run team/a start again" in capsys.readouterr().out
    assert not (kubectl / "home").exists()


def test_retry_refuses_when_the_run_is_complete(nothing_here: None, kubectl: Path, capsys: pytest.CaptureFixture[str]):
    (kubectl / "answer").write_text(json.dumps({"status": {"phase": "Complete"}}))
    assert call("retry", "a") == 1
    assert "run a is complete: no stage of it failed" in capsys.readouterr().err


SHARED = {"spec": {"storage": {"uri": "s3://b/p"}, "database": {"dsnSecretRef": {"name": "pg", "key": "uri"}}}}


def test_delete_says_what_stays_when_the_run_is_on_a_cluster(
    nothing_here: None, kubectl: Path, capsys: pytest.CaptureFixture[str]
):
    (kubectl / "answer").write_text(json.dumps(SHARED))
    assert call("delete", "a", "--context", "prod", "--yes") == 0
    assert (kubectl / "asked").read_text().splitlines()[-1] == f"delete {KIND} a --context=prod"
    stays = "what stays: its artifacts at s3://b/p, its rows in the database of Secret pg"
    assert f"run a is deleted; {stays}" in capsys.readouterr().out


def test_delete_asks_kubectl_for_nothing_when_nobody_confirms(
    nothing_here: None, kubectl: Path, capsys: pytest.CaptureFixture[str]
):
    (kubectl / "answer").write_text(json.dumps({"spec": {}, "status": {"serving": {}}}))
    assert call("delete", "a") == 1
    assert "delete run a on the cluster with its database and its artifacts? Add --yes" in capsys.readouterr().err
    assert len((kubectl / "asked").read_text().splitlines()) == 1


def test_what_can_not_be_promoted_or_rolled_back_is_told(kubectl: Path, capsys: pytest.CaptureFixture[str]):
    (kubectl / "answer").write_text("{}")
    assert call("rollback", "a") == 1
    assert "nothing of run a is served" in capsys.readouterr().err
    (kubectl / "refusal").write_text("spec.promotion.round: must not exceed spec.rounds.max")
    assert call("promote", "a", "--round", "9") == 1
    assert "must not exceed spec.rounds.max" in capsys.readouterr().err


def test_promote_shows_no_log_lines_and_names_a_run_of_this_machine(
    kubectl: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (kubectl / "refusal").write_text(
        "E1129 20:14:01.1 7 memcache.go:265] couldn't get API group list\n" * 5 + "The connection was refused\n"
    )
    monkeypatch.setenv("DISTILLERY_HOME", str(kubectl))
    assert call("promote", "house") == 1
    assert capsys.readouterr().err == "The connection was refused\n"
    (kubectl / "runs" / "default" / "house").mkdir(parents=True)
    assert call("promote", "house") == 1
    refusal, told = capsys.readouterr().err.splitlines()
    assert refusal == "The connection was refused"
    assert told.startswith("house is a run of this machine, and promote is for runs on a cluster")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("DISTILLERY_HOME", "file", "DISTILLERY_HOME: {folder}/file is a file; name a folder"),
        ("DISTILLERY_HOME", "file/below", "DISTILLERY_HOME: {folder}/file"),
        ("DISTILLERY_HOME", "/proc/none", "DISTILLERY_HOME: /proc/none can't be made: "),
        ("DISTILLERY_DATABASE", "host=/nowhere", "DISTILLERY_DATABASE: "),
        ("DISTILLERY_DATABASE", "nonsense", "correct DISTILLERY_DATABASE"),
        ("DISTILLERY_DATABASE_FILE", "none", "DISTILLERY_DATABASE_FILE: "),
    ],
)
def test_status_names_the_variable_when_it_is_unusable(
    variable: str, value: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    (tmp_path / "file").write_text("")
    for name in ("DISTILLERY_HOME", "DISTILLERY_DATABASE", "DISTILLERY_DATABASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value if variable == "DISTILLERY_DATABASE" else str(tmp_path / value))
    assert call("status") == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert told.format(folder=tmp_path) in line


def test_an_artifact_that_has_gone_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    async def report(_: object) -> int:
        FolderStore(tmp_path).manifest("prepare")
        return 0

    monkeypatch.setitem(commands._COMMANDS, "report", report)
    monkeypatch.setenv("DISTILLERY_HOME", str(tmp_path))
    assert call("report", "run") == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert "artifact prepare has no readable manifest" in line
    assert f"DISTILLERY_HOME ({tmp_path})" in line


def test_without_kubectl_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert call("promote", "a") == 1
    assert "kubectl, which is not installed here" in capsys.readouterr().err
