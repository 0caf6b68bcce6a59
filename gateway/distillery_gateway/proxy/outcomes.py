"""The outcome of a session, as its client reports it: evidence about a canary that serves a share of the sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distillery_gateway.errors import ApiError
from distillery_gateway.proxy.validation import parse_object
from distillery_gateway.sessions import check_session

PATH = "/v1/outcomes"

_FIELDS = frozenset(["model", "session", "success", "reward", "task"])
_MAX_TASK = 2000


@dataclass(frozen=True, slots=True)
class ReportedOutcome:
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


def parse(raw: bytes) -> ReportedOutcome:
    """Return the outcome that the body of a request reports. Raises :class:`ApiError`."""
    body = parse_object(raw)
    for name in body:
        if name not in _FIELDS:
            raise ApiError(400, "unknown_parameter", f"The parameter {name[:64]!r} is not known here.", name[:64])
    name = _require(body, "session", str, "Name the session as in the header X-Session-ID.")
    session = check_session(name, "session")
    success = _require(body, "success", bool, "Say whether the session succeeded: true or false.")
    reward = body.get("reward")
    if reward is not None and (isinstance(reward, bool) or not isinstance(reward, int | float) or not 0 <= reward <= 1):
        raise ApiError(400, "invalid_parameter", "reward is a number from 0 to 1.", "reward")
    task = body.get("task") or ""
    if not isinstance(task, str) or len(task) > _MAX_TASK:
        raise ApiError(400, "invalid_parameter", f"task is a string of at most {_MAX_TASK} characters.", "task")
    return ReportedOutcome(body["model"], session, success, None if reward is None else float(reward), task)


def _require(body: dict[str, Any], name: str, kind: type, fix: str) -> Any:
    if name not in body:
        raise ApiError(400, "missing_parameter", fix, name)
    if not isinstance(body[name], kind):
        raise ApiError(400, "invalid_parameter", fix, name)
    return body[name]
