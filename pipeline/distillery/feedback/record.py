"""The files that the gateway leaves for the recorder: requests of sessions, and session outcomes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from distillery.database.sessions import Exchange, Outcome

_MAX_NAME = 128
_MAX_TASK = 2_000


class NoRecord(ValueError):
    """The text is none; the message says why."""


def read(text: str) -> Exchange | Outcome:
    """Parse the record that a file holds. Raises :class:`NoRecord`."""
    try:
        document: dict[str, Any] = json.loads(text)
        session, alias = _name(document["session"]), _name(document["alias"])
        time = datetime.fromisoformat(document["time"])
        if time.tzinfo is None:
            raise NoRecord("its time has no zone")
        if "success" in document:
            return Outcome(
                session, alias, _success(document["success"]), _reward(document.get("reward")),
                _storable(document.get("task", ""))[:_MAX_TASK], time,
            )  # fmt: skip
        messages = tuple(map(_message, document["messages"]))
        return Exchange(session, alias, _name(document["model"]), messages, _storable(document["answer"]), time)
    except NoRecord:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NoRecord(f"{type(error).__name__}: {error}") from error


def _message(message: Mapping[str, Any]) -> Mapping[str, str]:
    return {"role": _storable(message["role"])[:16], "content": _storable(message["content"])}


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME:
        raise NoRecord(f"a name has 1 to {_MAX_NAME} characters")
    return _storable(value)


def _success(value: Any) -> bool:
    if not isinstance(value, bool):
        raise NoRecord("success is neither true nor false")
    return value


def _reward(value: Any) -> float | None:
    if value is not None and not 0 <= float(value) <= 1:
        raise NoRecord("a reward is from 0 to 1")
    return None if value is None else float(value)


def _storable(text: str) -> str:
    """The text without what Postgres has no place for: NUL, and halves of characters."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
