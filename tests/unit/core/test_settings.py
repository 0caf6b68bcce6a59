"""The settings of a program, from environment variables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from distillery.core.settings import (
    EnvironmentSettings,
    parse_boolean,
    parse_integer,
    parse_json_list,
    parse_json_object,
    parse_names,
    parse_number,
    strip_slash,
    variable,
)

PASSWORD = "hunter2"


def parse_password(text: str) -> str:
    if len(text) < 8:
        raise ValueError("write at least 8 characters")
    return text


@dataclass(frozen=True, slots=True)
class Settings(EnvironmentSettings):
    """Settings of a program with a required variable, and of one with a default."""

    run: str = field(metadata=variable("APP_RUN", missing="write NAMESPACE/NAME"))
    port: int = field(default=8000, metadata=variable("APP_PORT", parse_integer))
    folders: tuple[str, ...] = field(default_factory=lambda: ("a",), metadata=variable("APP_FOLDERS", parse_names))


@dataclass(frozen=True, slots=True)
class SecretSettings(EnvironmentSettings):
    """Settings with a secret."""

    password: str = field(
        metadata=variable("APP_PASSWORD", parse_password, missing="name a password in one of them", secret=True)
    )


def problem(settings: type[EnvironmentSettings], environment: dict[str, str]) -> str:
    with pytest.raises(ValueError) as caught:
        settings.from_environment(environment)
    return str(caught.value)


def test_fields_are_parsed_when_their_variables_are_set():
    environment = {"APP_RUN": "team/bot", "APP_PORT": "80", "APP_FOLDERS": "b,c", "OTHER": "x"}
    assert Settings.from_environment(environment) == Settings("team/bot", 80, ("b", "c"))


@pytest.mark.parametrize("environment", [{}, {"APP_PORT": "", "APP_FOLDERS": ""}])
def test_fields_keep_their_defaults_when_variables_are_absent_or_empty(environment: dict[str, str]):
    assert Settings.from_environment({"APP_RUN": "team/bot", **environment}) == Settings("team/bot", 8000, ("a",))


def test_variables_of_the_process_are_read_when_no_others_are_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APP_RUN", "team/bot")
    assert Settings.from_environment().run == "team/bot"


@pytest.mark.parametrize("environment", [{}, {"APP_RUN": ""}])
def test_error_names_the_fix_when_a_required_variable_is_not_set(environment: dict[str, str]):
    assert problem(Settings, environment) == "APP_RUN is not set: write NAMESPACE/NAME"


def test_error_names_every_variable_that_is_wrong_with_its_value():
    assert problem(Settings, {"APP_PORT": "eighty"}).splitlines() == [
        "APP_RUN is not set: write NAMESPACE/NAME",
        "APP_PORT is 'eighty': write a whole number",
    ]


def test_error_shortens_a_value_when_it_is_long():
    message = problem(Settings, {"APP_RUN": "team/bot", "APP_PORT": "8" * 100 + "x"})
    assert message == f"APP_PORT is '{'8' * 76}...: write a whole number"


def test_secret_is_read_from_its_file_before_its_variable(tmp_path: Path):
    (tmp_path / "password").write_text("from the file\n")
    environment = {"APP_PASSWORD": "from the variable", "APP_PASSWORD_FILE": str(tmp_path / "password")}
    assert SecretSettings.from_environment(environment).password == "from the file"
    environment["APP_PASSWORD_FILE"] = ""
    assert SecretSettings.from_environment(environment).password == "from the variable"


def test_error_never_shows_a_secret_when_it_is_wrong(tmp_path: Path):
    (tmp_path / "password").write_text(PASSWORD)
    for environment in ({"APP_PASSWORD": PASSWORD}, {"APP_PASSWORD_FILE": str(tmp_path / "password")}):
        assert problem(SecretSettings, environment) == "APP_PASSWORD: write at least 8 characters"


def test_error_names_both_variables_when_a_secret_is_not_set(tmp_path: Path):
    (tmp_path / "empty").write_text("\n")
    for environment in ({}, {"APP_PASSWORD_FILE": str(tmp_path / "empty")}):
        assert problem(SecretSettings, environment) == (
            "neither APP_PASSWORD nor APP_PASSWORD_FILE is set: name a password in one of them"
        )


def test_error_names_the_file_when_a_secret_can_not_be_read():
    message = problem(SecretSettings, {"APP_PASSWORD_FILE": "/none"})
    assert message == "APP_PASSWORD_FILE is '/none': name a file to read: No such file or directory"


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (parse_integer, "-3", -3),
        (parse_number, "0.5", 0.5),
        (parse_boolean, "true", True),
        (parse_boolean, "false", False),
        (parse_names, "a,,b", ("a", "b")),
        (parse_json_list, "[1]", [1]),
        (parse_json_object, '{"a": 1}', {"a": 1}),
        (strip_slash, "http://host/", "http://host"),
    ],
)
def test_parser_returns_the_value_of_a_text(parse: Callable[[str], Any], text: str, expected: Any):
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("parse", "text", "fix"),
    [
        (parse_integer, "1.5", "write a whole number"),
        (parse_number, "much", "write a number"),
        (parse_boolean, "yes", "write true or false"),
        (parse_json_list, "{}", "write a JSON list"),
        (parse_json_list, "[", "write a JSON list: Expecting value: line 1 column 2 (char 1)"),
        (parse_json_object, "[]", "write a JSON object"),
    ],
)
def test_parser_names_the_fix_when_a_text_is_wrong(parse: Callable[[str], Any], text: str, fix: str):
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert str(caught.value) == fix
