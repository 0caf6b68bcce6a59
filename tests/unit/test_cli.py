"""The command line teaches, and its exit codes tell what kind of end it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from distillery.cli import main as commands
from distillery.cli.main import main, parser
from distillery.models import ModelNotFound
from tests.unit.documents import document


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
    for word in ("run", "validate", "status", "report", "hints", "serve", "DISTILLERY_HOME", "exit codes", "examples:"):
        assert word in text


@pytest.mark.parametrize("command", ["run", "validate", "status", "report", "hints", "serve"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]):
    assert call(command, "--help") == 0
    assert len(capsys.readouterr().out.splitlines()) >= 5


def test_a_valid_document_is_summed_up(file: Path, capsys: pytest.CaptureFixture[str]):
    assert call("validate", str(file)) == 0
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
