"""How an observation crosses the pipe between a worker and the pool: as a short list, checked before it leaves."""

from __future__ import annotations

from typing import Any

from distillery.environments.base import Observation


def encode(observation: Any) -> list[Any]:
    """What an environment answered, as plain data.

    Raises:
        ValueError: it holds what no agent can read or no statistic can use; the message names what.
    """
    if not isinstance(observation, Observation):
        raise ValueError(f"the environment answered with {observation!r}, not with an Observation")
    _check_text("text", observation.text)
    for action in observation.admissible:
        _check_text("admissible action", action)
    score: Any = observation.score
    if not isinstance(score, int | float) or not 0 <= score <= 1:  # NaN compares as false
        raise ValueError(f"the observation's score is {score!r}, not a number from 0 to 1")
    for flag in ("done", "success", "valid"):
        if not isinstance(getattr(observation, flag), bool):
            raise ValueError(f"the observation's {flag} is {getattr(observation, flag)!r}, not a bool")
    return [
        observation.text,
        float(score),
        observation.done,
        observation.success,
        observation.valid,
        list(observation.admissible),
    ]


def decode(data: list[Any]) -> Observation:
    """What :func:`encode` encoded."""
    *parts, admissible = data
    return Observation(*parts, admissible=tuple(admissible))


def _check_text(what: str, text: Any) -> None:
    if not isinstance(text, str):
        raise ValueError(f"the observation's {what} is {text!r}, not a str")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"the observation's {what} is no Unicode text: {error}") from error
