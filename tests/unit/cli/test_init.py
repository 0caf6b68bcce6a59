"""A run file to start from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from distillery.cli.commands import init
from distillery.cli.commands.init import (
    STUDENT,
    STUDENT_COMMIT,
    InitError,
    StudentPart,
    derive_run_name,
    resolve_student,
)
from distillery.core import plugins
from distillery.core.api import DistillationRun, InvalidRun, load
from tests.unit.cli.calling import call

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(init, "newest_commit", lambda model: None)
    return tmp_path


def uncommented(file: Path) -> DistillationRun:
    """Return the run of a file whose commented fields are fields."""
    lines = file.read_text().splitlines()
    file.write_text("\n".join(re.sub(r"^( +)# ( *\w+:( |$))", r"\1\2", line) for line in lines))
    return load(file)


def test_init_names_the_next_command(here: Path, capsys: pytest.CaptureFixture[str]):
    assert call("init", "house.yaml") == 0
    assert capsys.readouterr().out == (
        f"house.yaml: run house, alfworld with react, student {STUDENT}\nnext: distillery validate house.yaml\n"
    )


def test_init_writes_a_valid_run(here: Path):
    call("init", "house.yaml")
    run = load(here / "house.yaml")
    assert (run.metadata.name, run.spec.environment.name, run.spec.agent.name) == ("house", "alfworld", "react")
    assert run.spec.environment.options == {"games": "generated"}
    assert (run.spec.models.student.model, run.spec.models.student.revision) == (STUDENT, STUDENT_COMMIT)


def test_init_writes_a_file_that_fits_the_screen(here: Path):
    call("init", "house.yaml")
    lines = (here / "house.yaml").read_text().splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120


def test_init_writes_comments_that_are_fields(here: Path):
    assert call("init", "house.yaml") == 0
    given = uncommented(here / "house.yaml").spec.model_dump(by_alias=True, exclude_defaults=True)
    assert {"modelServer", "stages", "serving"} <= given.keys()
    assert given["models"]["extractor"]["endpoint"]["model"] == "gpt-4o"


def test_validate_accepts_the_file_on_this_machine(here: Path, capsys: pytest.CaptureFixture[str]):
    assert call("init", "house.yaml") == 0
    assert call("validate", "house.yaml") == 0
    assert "house.yaml is valid: run default/house, alfworld with react" in capsys.readouterr().out


@pytest.mark.parametrize("environment", ["alfworld", "webshop", "openenv"])
@pytest.mark.parametrize("agent", ["plain", "react", "stateact"])
def test_init_writes_options_that_the_environment_takes(environment: str, agent: str, here: Path):
    assert call("init", "a.yaml", "--environment", environment, "--agent", agent) == 0
    spec = load(here / "a.yaml").spec
    assert (spec.environment.name, spec.agent.name) == (environment, agent)
    built: Any = plugins.load("environments", environment)(spec.environment.options, here / "games")
    assert spec.environment.tasks.evaluate_split or built.held_out_split
    assert (spec.models.extractor is None) == (environment != "openenv")


@pytest.mark.parametrize(("split", "rules"), [("", False), ("test", True)])
def test_init_reads_the_class_of_an_environment_of_others(
    split: str, rules: bool, here: Path, monkeypatch: pytest.MonkeyPatch
):
    members = {"held_out_split": split, **({"read": lambda *_: []} if rules else {})}
    monkeypatch.setattr(plugins, "list_installed", lambda kind: ["house", "react"])
    monkeypatch.setattr(plugins, "load", lambda kind, name: type("House", (), members))
    assert call("init", "a.yaml", "--environment", "house") == 0
    spec = load(here / "a.yaml").spec
    assert spec.environment.tasks.evaluate_split == (None if split else "test")
    assert (spec.models.extractor is None) == rules


def test_init_leaves_an_environment_that_fails_to_validate(here: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(kind: str, name: str) -> None:
        raise SystemExit("defect")

    monkeypatch.setattr(plugins, "list_installed", lambda kind: ["house", "react"])
    monkeypatch.setattr(plugins, "load", fail)
    assert call("init", "a.yaml", "--environment", "house") == 0
    assert load(here / "a.yaml").spec.environment.name == "house"


@pytest.mark.parametrize(
    ("arguments", "code", "reported"),
    [
        ("init there.yaml", 1, "there.yaml exists, and init overwrites no file: name another one, or delete it"),
        ("init there", 1, "there.yaml exists"),
        ("init a.yaml --environment alfwrld", 78, "--environment alfwrld: no environment of this name is installed; "
         "did you mean alfworld?"),
        ("init a.yaml --agent pondering", 78, "no agent of this name is installed; known here: plain, react, stateact"),
        ("init a.yaml --model ./gone", 78, "--model ./gone: there is no such folder here"),
        ("init a.yaml --model x/y@main", 78, "--model x/y@main: write the commit's 40 hexadecimal digits after @"),
        ("init a.yaml --model x/y/z", 78, "--model x/y/z: there is no such folder, and a model repository is written"),
        ("init -.yaml", 78, "the run is named after the file: write a name such as house.yaml"),
        ("init .", 78, "the run is named after the file"),
        ("init a-canary.yaml", 78, "choose a name that does not end in -canary or -database"),
        ("init there.yaml/a.yaml", 1, "there.yaml"),
    ],
)  # fmt: skip
def test_init_refuses_with_a_fix(
    arguments: str, code: int, reported: str, here: Path, capsys: pytest.CaptureFixture[str]
):
    (here / "there.yaml").write_text("mine")
    command, file, *more = arguments.split()
    assert call(command, *more, "--", file) == code
    assert reported in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["there.yaml"]
    assert (here / "there.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("house.yaml", "house"),
        ("runs/My House_2.yml", "my-house-2"),
        ("qwen-2.5.yaml", "qwen-2-5"),
        ("a" * 39 + "-b.yaml", "a" * 39),
        ("007.yaml", "007"),
    ],
)
def test_run_is_named_after_its_file(file: str, name: str):
    assert derive_run_name(Path(file)) == name


@pytest.mark.parametrize("file", ["007.yaml", "true.yaml", "1e5.yaml", "null.yaml", "new/folder/a.yaml", "qwen-2.5"])
def test_init_writes_names_that_yaml_would_read_otherwise(file: str, here: Path):
    assert call("init", file) == 0
    (written,) = here.rglob("*.yaml")
    assert load(written).metadata.name == derive_run_name(written)


def test_student_is_a_folder_as_seen_from_the_file(here: Path):
    (here / "models" / "micro").mkdir(parents=True)
    assert resolve_student("models/micro", here) == StudentPart("./models/micro", None)
    assert resolve_student("./models/micro", Path("runs")) == StudentPart("../models/micro", None)
    assert resolve_student("/opt/models/micro", here) == StudentPart("/opt/models/micro", None)
    with pytest.raises(InitError, match="there is no such folder"):
        resolve_student("../micro", here)


def test_student_is_pinned_to_the_commit_that_is_given_or_newest(monkeypatch: pytest.MonkeyPatch, here: Path):
    monkeypatch.setattr(init, "newest_commit", lambda model: COMMIT)
    assert resolve_student("x/y", here) == StudentPart("x/y", COMMIT)
    assert resolve_student(f"x/y@{STUDENT_COMMIT}", here) == StudentPart("x/y", STUDENT_COMMIT)
    assert resolve_student(STUDENT, here) == StudentPart(STUDENT, STUDENT_COMMIT)


def test_init_says_how_to_pin_a_student_when_the_hub_does_not(here: Path, capsys: pytest.CaptureFixture[str]):
    assert call("init", "a.yaml", "--model", "x/y") == 0
    shown = capsys.readouterr().out
    assert "pin the student: in spec.models.student.revision" in shown
    assert "\n  git ls-remote https://huggingface.co/x/y HEAD\n" in shown
    with pytest.raises(InvalidRun, match=r'student\.revision: "COMMIT": write the commit'):
        load(here / "a.yaml")
