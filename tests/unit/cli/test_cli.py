"""The command line teaches, and its exit codes tell what kind of end it was."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy.exc
import yaml

from distillery import __version__
from distillery.cli import main as commands
from distillery.cli.commands import cluster
from distillery.cli.errors import EXIT_FAILED
from distillery.cli.main import main
from distillery.cli.parser import build_parser
from distillery.core.artifacts.folder import FolderStore
from distillery.core.model_files import ModelNotFound
from tests.unit.cli.calling import call
from tests.unit.documents import document

COMMANDS = (
    "init", "run", "retry", "delete", "validate", "list", "status", "logs", "compare", "report", "hints", "serve",
    "promote", "rollback", "abort", "pause", "resume",
)  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(document()))
    return path


def test_help_shows_every_command_examples_and_exit_codes():
    text = build_parser().format_help()
    for word in (*COMMANDS, "DISTILLERY_HOME", "exit codes", "examples:"):
        assert word in text


def test_kubectl_finds_the_command_as_a_plugin():
    plugin = Path(sys.executable).with_name("kubectl-distillery")
    done = subprocess.run([plugin, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"distillery {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_page(command: str, capsys: pytest.CaptureFixture[str]):
    assert call(command, "--help") == 0
    assert len(capsys.readouterr().out.splitlines()) >= 5


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_into_80_columns(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert call(*([command] if command else []), "--help") == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert f"distillery {command}" in shown.partition("example")[2]


def test_help_loads_nothing_that_is_slow():
    slow = "{'pydantic', 'sqlalchemy', 'psycopg', 'rich', 'numpy'}"
    program = f"import sys, distillery.cli.main; sys.exit(str({slow} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        ("run x.yaml --set rounds", "rounds: write PATH=VALUE, such as spec.rounds.maxRounds=2"),
        ("logs a --tail -1", "-1: write a whole number of at least 0"),
        ("hints a --limit few", "few: write a whole number of at least 0"),
        ("serve a --port 70000", "70000: write a number up to 65535; 0 takes a free port"),
        ("serve a --round -1", "-1: write a whole number of at least 0"),
        ("status a --watch --json", "not allowed with"),
    ],
)
def test_wrong_options_exit_with_2_and_name_a_fix(arguments: str, reported: str, capsys: pytest.CaptureFixture[str]):
    assert call(*arguments.split()) == 2
    assert reported in capsys.readouterr().err


def test_serve_takes_a_free_port_when_it_is_0():
    assert build_parser().parse_args(["serve", "a", "--port", "0"]).port == 0


def test_validate_checks_the_document_with_its_changes(file: Path, capsys: pytest.CaptureFixture[str]):
    assert call("validate", "--offline", str(file), "--set", "spec.rounds.maxRounds=4", "--set", "metadata.name=b") == 0
    assert "run default/b" in (shown := capsys.readouterr().out)
    assert "up to 4 rounds" in shown
    assert call("validate", "--offline", str(file), "--set", "spec.rounds.maxRounds=0") == 78
    assert "spec.rounds.maxRounds: 0: write 1 or more" in capsys.readouterr().err


def test_validate_prints_json_when_a_script_reads_it(file: Path, capsys: pytest.CaptureFixture[str]):
    assert call("validate", "--offline", "--json", str(file)) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["valid"], result["run"], result["problems"]) == (True, "default/test", [])
    assert call("validate", "--offline", "--json", str(file), "--set", "spec.rounds.maxRounds=0") == 78
    result = json.loads(capsys.readouterr().out)
    assert result["problems"] == [{"path": "spec.rounds.maxRounds", "value": "0", "fix": "write 1 or more"}]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Have every command end with an error."""

    async def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(commands, "load_command", lambda _: fail)


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/log"), "/x/log: No space left on device; check the disk"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x"),
            "/x: Permission denied; check the disk",
        ),
        (psycopg.errors.DiskFull("could not extend file\nHINT: free space"), "the database failed: could not extend"),
        (sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("server closed")), "failed: server closed; check"),
    ],
)
def test_error_is_one_line_with_a_fix_when_the_system_fails(
    error: Exception, reported: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    failing(monkeypatch, error)
    assert call("list") == EXIT_FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert reported in line


def test_error_keeps_its_traceback_when_the_program_is_wrong(monkeypatch: pytest.MonkeyPatch):
    failing(monkeypatch, KeyError("x"))
    with pytest.raises(KeyError):
        main(["list"])


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        ("status a --watch", "stopped watching; this changes nothing for the run"),
        ("run f.yaml --set metadata.name=b", "interrupted; to resume: distillery run f.yaml --set metadata.name=b"),
        ("retry a", "interrupted; to resume: distillery retry a"),
    ],
)
def test_interruption_says_how_to_resume_the_run(
    arguments: str, reported: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    failing(monkeypatch, KeyboardInterrupt())
    assert call(*arguments.split()) == 130
    assert capsys.readouterr().err == f"{reported}\n"


def test_command_prints_no_error_when_its_output_is_closed_early(file: Path):
    """As ``distillery ... | head`` does; what is printed last must not fail either."""
    program = "import time; time.sleep(0.5); from distillery.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "validate", "--offline", str(file)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == EXIT_FAILED


def test_validate_sums_up_a_valid_document(file: Path, capsys: pytest.CaptureFixture[str]):
    assert call("validate", "--offline", str(file)) == 0
    assert (
        "is valid: run default/test, alfworld with react, 1200 training and 134 held-out tasks"
        in capsys.readouterr().out
    )


def test_validate_lists_every_error_of_an_invalid_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    wrong: dict[str, Any] = document(rounds={"maxRounds": 0}, agent={"nmae": "react"})
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(wrong))
    assert call("validate", str(path)) == 78
    errors = capsys.readouterr().err
    assert "spec.rounds.maxRounds: 0: write 1 or more" in errors
    assert 'spec.agent.nmae: "react": unknown field; did you mean name?' in errors


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]):
    assert call("frobnicate") == 2
    assert call("report") == 2
    assert call("status", "--watch") == 2
    assert "needs the name of a run" in capsys.readouterr().err
    assert call("report", "x", "--json", "--markdown") == 2
    assert "not allowed with" in capsys.readouterr().err


def test_error_is_one_line_when_a_model_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    async def serve(_: object) -> int:
        raise ModelNotFound("model /gone: there is no such folder")

    monkeypatch.setattr(commands, "load_command", lambda _: serve)
    assert call("serve", "run") == EXIT_FAILED
    assert capsys.readouterr().err == "model /gone: there is no such folder\n"


KIND = "distillationruns.distillery.dev"


def answer(kubectl: Path, annotation: str, value: str, phase: str = "Accepted") -> None:
    """Return the run as it is once the operator answered."""
    record = {"name": f"distillery.dev/{annotation}", "value": value, "phase": phase, "message": "what it says"}
    (kubectl / "answer").write_text(json.dumps({"status": {"requests": [record]}}))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> str:
    """Fix a request's token, and wait for nothing."""
    monkeypatch.setattr(cluster, "_token", lambda: "now")
    monkeypatch.setattr(cluster, "_POLL_SECONDS", 0.0)
    return "now"


@pytest.mark.parametrize(
    ("arguments", "annotation", "word"),
    [
        ("promote a --round 2", "serve-requested", "2"),
        ("promote a", "serve-requested", "latest"),
        ("rollback a", "serve-requested", "previous"),
        ("abort a", "canary-requested", "abort"),
        ("pause a", "canary-requested", "pause"),
        ("resume a", "canary-requested", "resume"),
        ("pause a --stages", "stages-requested", "pause"),
        ("resume a --stages", "stages-requested", "resume"),
    ],
)
def test_verb_annotates_the_run_and_prints_the_operators_answer(
    arguments: str, annotation: str, word: str, kubectl: Path, now: str, capsys: pytest.CaptureFixture[str]
):
    answer(kubectl, annotation, f"{word}@{now}")
    assert call(*arguments.split()) == 0
    assert (kubectl / "asked").read_text().splitlines() == [
        f"annotate {KIND} a --overwrite --field-manager=distillery-cli distillery.dev/{annotation}={word}@{now}",
        f"get {KIND} a --output=json",
    ]
    assert capsys.readouterr().out == "what it says\n"


def test_verb_names_namespace_and_context(kubectl: Path, now: str):
    answer(kubectl, "serve-requested", f"latest@{now}")
    assert call("promote", "team/a", "--context", "prod") == 0
    asked = (kubectl / "asked").read_text().splitlines()
    assert [line.partition("--namespace")[2] for line in asked] == ["=team --context=prod"] * 2


def test_verb_fails_with_the_operators_reason_when_it_refuses(
    kubectl: Path, now: str, capsys: pytest.CaptureFixture[str]
):
    answer(kubectl, "serve-requested", f"9@{now}", "Rejected")
    assert call("promote", "a", "--round", "9") == 1
    assert capsys.readouterr().err == "what it says\n"


def test_verb_fails_when_the_operator_does_not_answer(kubectl: Path, now: str, capsys: pytest.CaptureFixture[str]):
    answer(kubectl, "canary-requested", "abort@before")
    assert call("abort", "a") == 1
    assert "the operator did not answer distillery.dev/canary-requested=abort@now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "request_", "describe"),
    [
        ("promote a --round 2", "serve-requested=2@", "kubectl describe drun a"),
        ("rollback team/a", "serve-requested=previous@", "kubectl describe drun a --namespace=team"),
        ("abort a --context prod", "canary-requested=abort@", "kubectl describe drun a --context=prod"),
        ("pause a --stages", "stages-requested=pause@", "kubectl describe drun a"),
    ],
)
def test_verb_names_the_place_of_the_answer_when_it_is_interrupted(
    arguments: str, request_: str, describe: str, kubectl: Path
):
    """As the first Ctrl-C does while kubectl runs: a terminal would send it the signal too."""
    press_ctrl_c(kubectl, "get")
    done = in_a_process(*arguments.split())
    assert done.returncode == 130
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"interrupted; the request distillery.dev/{request_}")
    assert line.endswith(f"{describe} shows the operator's answer")


def test_verb_claims_no_request_when_it_is_interrupted_before(kubectl: Path):
    press_ctrl_c(kubectl, "annotate")
    done = in_a_process("abort", "team/a")
    assert done.returncode == 130
    message = "interrupted; the request may not be set: kubectl describe drun a --namespace=team shows it\n"
    assert done.stderr == message


def press_ctrl_c(kubectl: Path, verb: str) -> None:
    """Have the fake kubectl interrupt the command that called it, and end as the real one does."""
    program = kubectl / "kubectl"
    answering = program.read_text().removeprefix("#!/bin/sh\n")
    program.write_text(f'#!/bin/sh\nif [ "$1" = {verb} ]; then kill -INT $PPID; kill -INT $$; fi\n{answering}')


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from distillery.cli.main import main; main()"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


def test_retry_annotates_the_run_when_it_is_on_a_cluster(
    nothing_here: None, kubectl: Path, capsys: pytest.CaptureFixture[str]
):
    (kubectl / "answer").write_text(json.dumps({"status": {"phase": "Failed"}}))
    assert call("retry", "team/a") == 0
    got, annotated = (kubectl / "asked").read_text().splitlines()
    assert got == f"get {KIND} a --output=json --namespace=team"
    pattern = r"annotate \S+ a --overwrite --field-manager=\S+ distillery\.dev/retry-requested=20\S+\+00:00 .*=team"
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


def test_delete_deletes_nothing_when_the_question_is_left(
    nothing_here: None, kubectl: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def leave(_: str) -> str:
        raise EOFError

    (kubectl / "answer").write_text(json.dumps({"spec": {}}))
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr("builtins.input", leave)
    assert call("delete", "a") == 1
    assert capsys.readouterr().err == "nothing is deleted\n"


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
    refusal, remark = capsys.readouterr().err.splitlines()
    assert refusal == "The connection was refused"
    assert remark.startswith("house is a run of this machine, and promote is for runs on a cluster")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DISTILLERY_HOME", "file", "DISTILLERY_HOME: {folder}/file is a file; name a folder"),
        ("DISTILLERY_HOME", "file/below", "DISTILLERY_HOME: {folder}/file"),
        ("DISTILLERY_HOME", "/proc/none", "DISTILLERY_HOME: /proc/none can't be made: "),
        ("DISTILLERY_DATABASE_URL", "host=/nowhere", "DISTILLERY_DATABASE_URL: "),
        ("DISTILLERY_DATABASE_URL", "nonsense", "correct DISTILLERY_DATABASE_URL"),
        ("DISTILLERY_DATABASE_URL_FILE", "none", "DISTILLERY_DATABASE_URL_FILE: "),
    ],
)
def test_status_names_the_variable_when_it_is_unusable(
    variable: str, value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    (tmp_path / "file").write_text("")
    for name in ("DISTILLERY_HOME", "DISTILLERY_DATABASE_URL", "DISTILLERY_DATABASE_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value if variable == "DISTILLERY_DATABASE_URL" else str(tmp_path / value))
    assert call("status") == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert message.format(folder=tmp_path) in line


def test_error_is_one_line_when_an_artifact_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    async def report(_: object) -> int:
        FolderStore(tmp_path).manifest("prepare")
        return 0

    monkeypatch.setattr(commands, "load_command", lambda _: report)
    monkeypatch.setenv("DISTILLERY_HOME", str(tmp_path))
    assert call("report", "run") == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert "artifact prepare has no readable manifest" in line
    assert f"DISTILLERY_HOME ({tmp_path})" in line


def test_error_names_kubectl_when_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert call("promote", "a") == 1
    assert "kubectl, which is not installed here" in capsys.readouterr().err
