"""``spec.environment.options`` of the plug-in ``openenv``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from distillery.core.secrets import SecretNotFound, read_secret
from distillery.environments.base import EnvironmentConfigurationError
from distillery.environments.options import check_names

_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Options:
    """The options of the environment; only ``url`` is required.

    Attributes:
        url: of the server, such as ``http://wordle:8000``; a path stays, ``ws`` and ``wss`` are understood too.
        instructions: the agent's instructions; else the server's own description, and the form of an action.
        verbs: the words that a command can begin with, for the agent ``plain``.
        action: the field of an action that takes the command; else its only text field. Without one, a command is a
            JSON object: the whole action.
        text: the field of an observation that the agent reads; else its only text field, or the whole as JSON.
        goal: the field of a task (of a server with tasks) that states its goal; else the whole task as JSON.
        category: the field of a task that names its kind; else kinds are found by the similarity of goals.
        reward: the episode's score: ``last``, the last reward that came, or ``sum``, of all.
        rewards: the worst and the best there is, scored as 0 and 1.
        success: the score from which a finished episode counts as a success.
        tokenSecretRef: the Secret's name and key with the token, from ``spec.environment.tokenSecretRef``.
    """

    url: str
    instructions: str = ""
    verbs: tuple[str, ...] = ()
    action: str = ""
    text: str = ""
    goal: str = ""
    category: str = ""
    reward: str = "last"
    rewards: tuple[float, float] = (0.0, 1.0)
    success: float = 1.0
    tokenSecretRef: tuple[str, str] | None = None

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Options:
        """Check plain data. Raises :class:`EnvironmentConfigurationError` that names the option."""
        check_names("openenv", options, [field.name for field in fields(cls)])
        if "url" not in options:
            raise EnvironmentConfigurationError("openenv needs the option url, such as http://127.0.0.1:8000")
        values = {name: _READERS.get(name, _read_text)(name, value) for name, value in options.items()}
        return cls(**values)

    def headers(self) -> dict[str, str]:
        """Return the header with the token; empty without one. The token is read again each time, and kept nowhere.

        Raises:
            EnvironmentConfigurationError: it isn't there, or can't be sent in a header. The message has nothing of it.
        """
        if self.tokenSecretRef is None:
            return {}
        try:
            token = read_secret(*self.tokenSecretRef)
        except SecretNotFound as error:
            raise EnvironmentConfigurationError(f"openenv's token: {error}") from error
        if not _TOKEN.fullmatch(token):
            name, key = self.tokenSecretRef
            raise EnvironmentConfigurationError(
                f"openenv's token, secret {name}, key {key}, is empty or has characters that no header can hold"
            )
        return {"Authorization": f"Bearer {token}"}


def _read_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "a text", value)
    return value


def _read_url(name: str, value: Any) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https", "ws", "wss") and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError, TypeError):
        parts, valid = None, False
    if not valid:
        raise _wrong(name, "a server's, such as http://127.0.0.1:8000", value)
    if parts and (parts.username or parts.password):
        raise EnvironmentConfigurationError("openenv's option url holds a password, and options are not kept secret")
    return value


def _read_verbs(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(verb, str) and verb for verb in value):
        raise _wrong(name, "a list of words", value)
    return tuple(value)


def _read_reward(name: str, value: Any) -> str:
    if value not in ("last", "sum"):
        raise _wrong(name, "last or sum", value)
    return value


def _read_rewards(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)):
        raise _wrong(name, "a list of two numbers, the worst and the best", value)
    if value[0] >= value[1]:
        raise _wrong(name, "the worst reward and then the best", value)
    return float(value[0]), float(value[1])


def _read_success(name: str, value: Any) -> float:
    if not _is_number(value) or not 0 < value <= 1:
        raise _wrong(name, "a number above 0, and 1 at most", value)
    return value


def _read_secret_reference(name: str, value: Any) -> tuple[str, str]:
    if not isinstance(value, dict) or value.keys() != {"name", "key"}:
        raise EnvironmentConfigurationError(f"openenv's option {name} is given by spec.environment.tokenSecretRef")
    return str(value["name"]), str(value["key"])


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "url": _read_url,
    "verbs": _read_verbs,
    "reward": _read_reward,
    "rewards": _read_rewards,
    "success": _read_success,
    "tokenSecretRef": _read_secret_reference,
}
"""The checks of single options, which return their values; all others are texts."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(name: str, expected: str, value: Any) -> EnvironmentConfigurationError:
    return EnvironmentConfigurationError(f"openenv's option {name} is {expected}, not {value!r}")
