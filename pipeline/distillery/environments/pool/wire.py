"""The checks of an environment's answers; observations cross the pipe to the pool as short lists.

An environment may be anybody's. An answer that passes here can be stored by Postgres, shown to a model and counted.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from distillery.environments.base import Observation, Task

MAX_TEXT_LENGTH = 1_000_000
"""Characters of an observation: more than any model reads."""

_MAX_SHOWN = 200
"""Characters of a wrong value that a message shows."""

_MAX_REASON_LENGTH = 2000


def check_task(task: Any) -> None:
    """Raise a ValueError that names the problem of a catalog's task."""
    if not isinstance(task, Task):
        raise ValueError(f"{_shorten(task)} stands where a Task should")
    for field in fields(task):
        _check_text(f"task's {field.name}", getattr(task, field.name))
    if not task.id:
        raise ValueError("a task has an empty id")


def encode(observation: Any) -> list[Any]:
    """Return an environment's answer as plain data.

    Raises:
        ValueError: it holds a value that no agent can read or no statistic can use; the message names it.
    """
    if not isinstance(observation, Observation):
        raise ValueError(f"the environment answered with {_shorten(observation)}, not with an Observation")
    _check_text("observation's text", observation.text)
    admissible: Any = observation.admissible
    if not isinstance(admissible, tuple | list):
        raise ValueError(f"the observation's admissible is {_shorten(admissible)}, not a tuple")
    for action in admissible:
        _check_text("observation's admissible action", action)
    score: Any = observation.score
    if not isinstance(score, int | float) or not 0 <= score <= 1:  # NaN compares as false
        raise ValueError(f"the observation's score is {_shorten(score)}, not a number from 0 to 1")
    for flag in ("done", "success", "valid"):
        if not isinstance(value := getattr(observation, flag), bool):
            raise ValueError(f"the observation's {flag} is {_shorten(value)}, not a bool")
    return [
        observation.text,
        float(score),
        observation.done,
        observation.success,
        observation.valid,
        list(admissible),
    ]


def decode(data: list[Any]) -> Observation:
    """Return the observation that :func:`encode` encoded."""
    *parts, admissible = data
    return Observation(*parts, admissible=tuple(admissible))


def to_storable(text: str) -> str:
    """Return a text of unknown origin as Postgres accepts it, shortened if it is very long.

    It is for reasons, not for data.
    """
    text = text.encode(errors="replace").decode().replace("\0", "?")
    return text if len(text) <= _MAX_REASON_LENGTH else f"{text[:_MAX_REASON_LENGTH]} ..."


def _check_text(what: str, text: Any) -> None:
    if not isinstance(text, str):
        raise ValueError(f"the {what} is {_shorten(text)}, not a str")
    if len(text) > MAX_TEXT_LENGTH:
        raise ValueError(f"the {what} has {len(text):,} characters, and at most {MAX_TEXT_LENGTH:,} are read")
    if "\0" in text:
        raise ValueError(f"the {what} holds a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"the {what} is no Unicode text: {error}") from error


def _shorten(value: Any) -> str:
    return to_storable(repr(value)[:_MAX_SHOWN])
