"""A process that plays: the other end of :mod:`distillery.environments.pool`.

Requests come on standard input and answers go to standard output, one JSON document a line, one request at a time. What
the environment itself prints, from Python or from C, goes to standard error instead.

    {"environment": name, "options": ..., "folder": ...}    first; answered by {} when the environment is loaded
    {"open": N, "task": {...}}                              open session N and reset it
    {"step": N, "action": "..."}
    {"close": N}

An answer is ``{"observation": [...]}``, ``{}``, or ``{"error": message, "configuration": whether that is to blame}``;
the session of a request that failed is closed. The process ends when its input does, or when its parent is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

from distillery import plugins
from distillery.environments import wire
from distillery.environments.base import Environment, EnvironmentConfigurationError, Session, Task

_CONFIGURATION = (EnvironmentConfigurationError, plugins.UnknownPlugin)
_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Serve requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the pool ends its workers itself
    _end_with_parent()
    requests, answers = _claim_pipes()
    environment: Environment | None = None
    sessions: dict[int, Session] = {}
    for line in requests:
        request = json.loads(line)
        try:
            if environment is None:
                environment = _build(**request)
                answer: dict[str, Any] = {}
            else:
                answer = _serve(environment, sessions, request)
        except (Exception, SystemExit) as error:
            # in the middle of an episode there is nothing to configure
            configuration = isinstance(error, _CONFIGURATION) and "step" not in request
            answer = {"error": wire.storable(_describe(error)), "configuration": configuration}
            _abandon(sessions, request.get("open", request.get("step")))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _build(environment: str, options: dict[str, Any], folder: str) -> Environment:
    made: Environment = plugins.load("environments", environment)(options, Path(folder))
    made.load()
    return made


def _serve(environment: Environment, sessions: dict[int, Session], request: dict[str, Any]) -> dict[str, Any]:
    match request:
        case {"step": number, "action": action}:
            return {"observation": wire.encode(sessions[number].step(action))}
        case {"open": number, "task": task}:
            sessions[number] = session = environment.open(Task(**task))
            return {"observation": wire.encode(session.reset())}
        case {"close": number}:
            sessions.pop(number).close()
            return {}
        case _:
            raise ValueError(f"not a request: {request}")


def _abandon(sessions: dict[int, Session], number: int | None) -> None:
    """Close a session that failed, however it takes it."""
    if number in sessions:
        try:
            sessions.pop(number).close()
        except (Exception, SystemExit) as error:
            print(f"a session that had failed couldn't be closed: {_describe(error)}", file=sys.stderr)


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, _CONFIGURATION) else f"{type(error).__name__}: {error}"


def _claim_pipes() -> tuple[IO[str], IO[str]]:
    """Keep the pipes for the protocol; whoever reads standard input finds nothing, whoever prints reaches stderr."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _end_with_parent() -> None:
    """On Linux, die with the parent even in the middle of a request; elsewhere the end of the input has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
