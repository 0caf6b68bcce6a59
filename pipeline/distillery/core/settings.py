"""The settings of a program: a frozen dataclass whose fields are read from environment variables.

    @dataclass(frozen=True, slots=True)
    class Settings(EnvironmentSettings):
        run: str = field(metadata=variable("APP_RUN", missing="write NAMESPACE/NAME"))
        port: int = field(default=8000, metadata=variable("APP_PORT", parse_integer))

    settings = Settings.from_environment()

Messages name the variable, its value and the fix: "APP_PORT is 'eighty': write a whole number".
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Self

_KEY = "variable"
_MAX_SHOWN = 80
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that a field is read from.

    Attributes:
        name: the variable's.
        parse: turns its text, which is not empty, into the field's value. The message of its ValueError is the fix.
        missing: the fix where a variable without a default is not set.
        secret: no message shows the value, and the variable ``NAME_FILE`` can name a file that holds it.
    """

    name: str
    parse: Callable[[str], Any]
    missing: str
    secret: bool

    def read(self, environment: Mapping[str, str]) -> str:
        """Return the text; empty if it is not set. Raises OSError for a secret's file."""
        return (read_secret(self.name, environment) if self.secret else environment.get(self.name)) or ""


def variable(
    name: str, parse: Callable[[str], Any] = str, *, missing: str = "write a value", secret: bool = False
) -> Mapping[str, Variable]:
    """Return the metadata of a field that is read from a variable; see :class:`Variable`."""
    return {_KEY: Variable(name, parse, missing, secret)}


def variable_of(field: Field[Any]) -> Variable:
    """Return the variable of a field."""
    return field.metadata[_KEY]


@dataclass(frozen=True, slots=True)
class EnvironmentSettings:
    """The base of the settings of a program. Each field of a subclass has the metadata of :func:`variable`."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the variables. A field keeps its default where its variable is not set or empty.

        Raises:
            ValueError: a line for each variable that is wrong or missing, with its value and the fix.
        """
        values: dict[str, Any] = {}
        problems: list[str] = []
        for field in fields(cls):
            declared = variable_of(field)
            try:
                if text := declared.read(environment):
                    values[field.name] = declared.parse(text)
                elif field.default is MISSING and field.default_factory is MISSING:
                    problems.append(_describe_missing(declared))
            except OSError as error:
                problems.append(f"{declared.name}_FILE is {error.filename!r}: name a file to read: {error.strerror}")
            except ValueError as error:
                problems.append(_describe_wrong(declared, environment, error))
        if problems:
            raise ValueError("\n".join(problems))
        return cls(**values)


def read_secret(name: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the content of the file that ``NAME_FILE`` names, or else the variable. Raises OSError for the file."""
    if path := environment.get(f"{name}_FILE"):
        return Path(path).read_text(encoding="utf-8").strip()
    return environment.get(name)


def parse_integer(text: str) -> int:
    """Parse a whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError("write a whole number") from None


def parse_number(text: str) -> float:
    """Parse a number."""
    try:
        return float(text)
    except ValueError:
        raise ValueError("write a number") from None


def parse_boolean(text: str) -> bool:
    """Parse true or false."""
    if text not in _BOOLEANS:
        raise ValueError("write true or false")
    return _BOOLEANS[text]


def parse_names(text: str) -> tuple[str, ...]:
    """Parse names with commas between them."""
    return tuple(filter(None, text.split(",")))


def parse_json_list(text: str) -> list[Any]:
    """Parse a list as JSON."""
    return _parse_json(text, list, "a JSON list")


def parse_json_object(text: str) -> dict[str, Any]:
    """Parse an object as JSON."""
    return _parse_json(text, dict, "a JSON object")


def strip_slash(url: str) -> str:
    """Return a URL that a path can be appended to."""
    return url.rstrip("/")


def _parse_json(text: str, kind: type[Any], wanted: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"write {wanted}: {error}") from None
    if not isinstance(value, kind):
        raise ValueError(f"write {wanted}")
    return value


def _describe_missing(declared: Variable) -> str:
    names = f"neither {declared.name} nor {declared.name}_FILE is" if declared.secret else f"{declared.name} is not"
    return f"{names} set: {declared.missing}"


def _describe_wrong(declared: Variable, environment: Mapping[str, str], error: ValueError) -> str:
    if declared.secret:
        return f"{declared.name}: {error}"
    shown = repr(environment[declared.name])
    return f"{declared.name} is {shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 3] + '...'}: {error}"
