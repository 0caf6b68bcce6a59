"""The records that the gateway leaves for the recorder, one file each: requests of sessions, and session outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

_MAX_NAME = 128


class InvalidRecord(ValueError):
    """A text that is not a record; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class CapturedRequest:
    """A request of a session, and its answer.

    Attributes:
        session: the session's name, chosen by the client.
        alias: the model's name for clients.
        model: the student that answered.
        messages: the role and the text of each message of the request.
        answer: the text of the answer.
        time: when it was answered.
    """

    session: str
    alias: str
    model: str
    messages: tuple[Mapping[str, str], ...]
    answer: str
    time: datetime

    def dump(self) -> str:
        """Return the record as :func:`parse` reads it."""
        return json.dumps({**asdict(self), "time": self.time.isoformat()})


@dataclass(frozen=True, slots=True)
class CapturedOutcome:
    """The outcome of a session, as its client reports it.

    Attributes:
        session: the session's name, chosen by the client.
        alias: the model's name for clients.
        success: whether the task was done.
        reward: 0 to 1, if the client knows one.
        task: the task, in the client's words.
        time: when the outcome was reported.
    """

    session: str
    alias: str
    success: bool
    reward: float | None
    task: str
    time: datetime

    def dump(self) -> str:
        """Return the record as :func:`parse` reads it."""
        return json.dumps({**asdict(self), "time": self.time.isoformat()})


def parse(text: str) -> CapturedRequest | CapturedOutcome:
    """Parse a record. Raises :class:`InvalidRecord`."""
    try:
        document: dict[str, Any] = json.loads(text)
        session, alias = _name(document["session"]), _name(document["alias"])
        time = datetime.fromisoformat(document["time"])
        if time.tzinfo is None:
            raise InvalidRecord("its time has no zone")
        if "success" in document:
            return CapturedOutcome(
                session=session,
                alias=alias,
                success=_success(document["success"]),
                reward=_reward(document.get("reward")),
                task=_text(document.get("task", "")),
                time=time,
            )
        return CapturedRequest(
            session=session,
            alias=alias,
            model=_name(document["model"]),
            messages=tuple(map(_message, document["messages"])),
            answer=_text(document["answer"]),
            time=time,
        )
    except InvalidRecord:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRecord(f"{type(error).__name__}: {error}") from error


def _message(message: Mapping[str, Any]) -> Mapping[str, str]:
    return {"role": _text(message["role"]), "content": _text(message["content"])}


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME:
        raise InvalidRecord(f"a name has 1 to {_MAX_NAME} characters")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRecord("a text is not a string")
    return value


def _success(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidRecord("success is neither true nor false")
    return value


def _reward(value: Any) -> float | None:
    if value is not None and not 0 <= float(value) <= 1:
        raise InvalidRecord("a reward is from 0 to 1")
    return None if value is None else float(value)
