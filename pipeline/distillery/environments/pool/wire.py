"""The checks of an environment's answers; observations cross the pipe to the pool as short lists.

An environment may be anybody's. An answer that passes here can be stored by Postgres, shown to a model and counted.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from distillery.environments.base import Observation, Task

LONGEST_TEXT = 1_000_000
"""Characters of an observation: more than any model reads."""

_SHOWN = 200
"""Characters of a wrong value that a message shows."""

_MAX_OF_A_REASON = 2000


def check_task(task: Any) -> None:
    """Raise a ValueError that names the problem of a catalog's task."""
    if not isinstance(task, Task):
        raise ValueError(f"{_shown(task)} stands where a Task should")
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
        raise ValueError(f"the environment answered with {_shown(observation)}, not with an Observation")
    _check_text("observation's text", observation.text)
    admissible: Any = observation.admissible
    if not isinstance(admissible, tuple | list):
        raise ValueError(f"the observation's admissible is {_shown(admissible)}, not a tuple")
    for action in admissible:
        _check_text("observation's admissible action", action)
    score: Any = observation.score
    if not isinstance(score, int | float) or not 0 <= score <= 1:  # NaN compares as false
        raise ValueError(f"the observation's score is {_shown(score)}, not a number from 0 to 1")
    for flag in ("done", "success", "valid"):
        if not isinstance(value := getattr(observation, flag), bool):
            raise ValueError(f"the observation's {flag} is {_shown(value)}, not a bool")
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


def storable(text: str) -> str:
    """Return a text of unknown origin as Postgres takes it, shortened if it is very long: for reasons, not for data."""
    text = text.encode(errors="replace").decode().replace("\0", "?")
    return text if len(text) <= _MAX_OF_A_REASON else f"{text[:_MAX_OF_A_REASON]} ..."


def _check_text(what: str, text: Any) -> None:
    if not isinstance(text, str):
        raise ValueError(f"the {what} is {_shown(text)}, not a str")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"the {what} has {len(text):,} characters, and at most {LONGEST_TEXT:,} are read")
    if "\0" in text:
        raise ValueError(f"the {what} holds a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"the {what} is no Unicode text: {error}") from error


def _shown(value: Any) -> str:
    return storable(repr(value)[:_SHOWN])
