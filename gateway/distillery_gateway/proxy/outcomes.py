"""The outcome of a session, as its client reports it: evidence about a canary that serves a share of the sessions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from distillery_gateway.errors import Refusal
from distillery_gateway.proxy.validation import parse_object

PATH = "/v1/outcomes"

_FIELDS = frozenset(["model", "session", "success", "reward", "task"])
_SESSION = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")
_MAX_TASK = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a session.

    Attributes:
        model: the alias that the session asked for.
        session: as its requests named it in ``X-Session-ID``.
        success: whether the task was solved.
        reward: how well, from 0 to 1, where the client knows.
        task: what was to be done, where the client says.
    """

    model: str
    session: str
    success: bool
    reward: float | None = None
    task: str = ""


def check_session(session: str, parameter: str) -> str:
    """Return a session's name if clients may give it. Raises :class:`Refusal` that names the header or parameter."""
    if not _SESSION.fullmatch(session):
        message = f"{parameter} is 1 to 128 letters, digits and characters of . _ : @ / + = -"
        raise Refusal(400, "invalid_parameter", message, parameter)
    return session


def parse(raw: bytes) -> Outcome:
    """Return the outcome that the body of a request reports. Raises :class:`Refusal`."""
    body = parse_object(raw)
    for name in body:
        if name not in _FIELDS:
            raise Refusal(400, "unknown_parameter", f"The parameter {name[:64]!r} is not known here.", name[:64])
    named = _given(body, "session", str, "Name the session as in the header X-Session-ID.")
    session = check_session(named, "session")
    success = _given(body, "success", bool, "Say whether the session succeeded: true or false.")
    reward = body.get("reward")
    if reward is not None and (isinstance(reward, bool) or not isinstance(reward, int | float) or not 0 <= reward <= 1):
        raise Refusal(400, "invalid_parameter", "reward is a number from 0 to 1.", "reward")
    task = body.get("task") or ""
    if not isinstance(task, str) or len(task) > _MAX_TASK:
        raise Refusal(400, "invalid_parameter", f"task is a string of at most {_MAX_TASK} characters.", "task")
    return Outcome(body["model"], session, success, None if reward is None else float(reward), task)


def _given(body: dict[str, Any], name: str, kind: type, mend: str) -> Any:
    if name not in body:
        raise Refusal(400, "missing_parameter", mend, name)
    if not isinstance(body[name], kind):
        raise Refusal(400, "invalid_parameter", mend, name)
    return body[name]
