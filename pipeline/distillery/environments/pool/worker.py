"""A process that plays: the other end of :mod:`distillery.environments.pool.pool`.

Requests come on standard input and answers go to standard output, one JSON document a line. Each request has a number
under ``request``, and so has its answer. What the environment itself prints, from Python or from C, goes to standard
error instead.

    {"environment": name, "options": ..., "folder": ...}    first; answered by {"concurrent": ...} once it is loaded
    {"open": N, "task": {...}}                              open session N and reset it
    {"step": N, "action": "..."}
    {"close": N}

An answer is ``{"observation": [...]}``, ``{}``, or ``{"error": message, "kind": KIND}``, where KIND is
``configuration``, ``away`` (a server) or ``failure``; the session of a request that failed is closed. Requests are
carried out one after another, or, where the environment is ``concurrent``, those of each session are: then a ``close``
also ends what its session is doing. The process ends when its input does, or when its parent is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from distillery.core import plugins
from distillery.core.child_processes import die_with_parent
from distillery.environments.base import Environment, EnvironmentAway, EnvironmentConfigurationError, Session, Task
from distillery.environments.pool import wire

_CONFIGURATION = (EnvironmentConfigurationError, plugins.UnknownPlugin)

Answer = dict[str, Any]


def main() -> None:
    """Serve requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the pool ends its workers itself
    _end_with_parent()
    requests, pipe = claim_pipes()
    answers = _Answers(pipe)
    dispatcher: _Dispatcher | None = None
    for line in requests:
        request = json.loads(line)
        number = request.pop("request")
        if dispatcher is not None:
            dispatcher.serve(number, request)
            continue
        try:
            environment = _build(**request)
            dispatcher = _Dispatcher(environment, answers)
            answer: Answer = {"concurrent": dispatcher.concurrent}
        except (Exception, SystemExit) as error:
            answer = _to_error_answer(error, opening=True)
        answers.send(number, answer)


class _Answers:
    """The pipe to the pool, which one thread at a time writes to."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, number: int, answer: Answer) -> None:
        """Write the answer to a request."""
        line = json.dumps({"request": number, **answer})
        with self._lock:
            self._pipe.write(line + "\n")
            self._pipe.flush()


class _Dispatcher:
    """Hands requests to their sessions."""

    def __init__(self, environment: Environment, answers: _Answers) -> None:
        self.concurrent = bool(getattr(environment, "concurrent", False))
        self._environment = environment
        self._answers = answers
        self._slots: dict[int, _SessionSlot] = {}

    def serve(self, number: int, request: dict[str, Any]) -> None:
        """Carry out a request and answer it, here or in the thread of its session."""
        session = next((request[key] for key in ("open", "step", "close") if key in request), -1)
        closing = "close" in request
        slot = self._slots.pop(session, None) if closing else self._slots.get(session)
        exists = slot is not None or "open" in request
        if slot is None:
            slot = _SessionSlot(self._environment)
            if "open" in request:
                self._slots[session] = slot
        work = (self, session, slot, number, request)
        if not self.concurrent or not exists:
            _carry_out(*work)
        elif closing:
            slot.queue.put(None)
            threading.Thread(target=_carry_out, args=work, daemon=True).start()
        else:
            if slot.thread is None:
                slot.thread = threading.Thread(target=_play_session, args=(slot.queue,), daemon=True)
                slot.thread.start()
            slot.queue.put(work)

    def answer(self, session: int, number: int, answer: Answer) -> None:
        """Send an answer; a session whose request failed is gone."""
        if "error" in answer and (slot := self._slots.pop(session, None)):
            slot.queue.put(None)
        self._answers.send(number, answer)


class _SessionSlot:
    """One session, and the thread that plays it where the environment is concurrent."""

    def __init__(self, environment: Environment) -> None:
        self.queue: SimpleQueue[Any] = SimpleQueue()
        self.thread: threading.Thread | None = None
        self._environment = environment
        self._session: Session | None = None
        self._closed = False
        self._lock = threading.Lock()

    def serve(self, request: dict[str, Any]) -> Answer:
        """Carry out a request of the session."""
        try:
            match request:
                case {"step": _, "action": action}:
                    if self._session is None:
                        raise ValueError("the session is not open")
                    return {"observation": wire.encode(self._session.step(action))}
                case {"open": _, "task": task}:
                    return {"observation": wire.encode(self._open(Task(**task)).reset())}
                case {"close": _}:
                    self._close()
                    return {}
                case _:
                    raise ValueError(f"not a request: {request}")
        except (Exception, SystemExit) as error:
            answer = _to_error_answer(error, opening="open" in request)
            try:
                self._close()
            except (Exception, SystemExit) as second:
                print(f"a session that had failed couldn't be closed: {describe(second)}", file=sys.stderr)
            return answer

    def _open(self, task: Task) -> Session:
        session = self._environment.open(task)
        with self._lock:
            if not self._closed:
                self._session = session
                return session
        session.close()
        raise ValueError("the session was closed while it was opened")

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            session, self._session = self._session, None
        if session is not None:
            session.close()


def _carry_out(dispatcher: _Dispatcher, session: int, slot: _SessionSlot, number: int, request: dict[str, Any]) -> None:
    dispatcher.answer(session, number, slot.serve(request))


def _play_session(queue: SimpleQueue[Any]) -> None:
    """Carry out the requests of one session, in their order."""
    while work := queue.get():
        _carry_out(*work)


def _build(environment: str, options: dict[str, Any], folder: str) -> Environment:
    plugin: Environment = plugins.load("environments", environment)(options, Path(folder))
    plugin.load()
    return plugin


def _to_error_answer(error: BaseException, *, opening: bool) -> Answer:
    kind = "away" if isinstance(error, EnvironmentAway) else "failure"
    if isinstance(error, _CONFIGURATION) and opening:  # in the middle of an episode there is nothing to configure
        kind = "configuration"
    return {"error": wire.to_storable(describe(error)), "kind": kind}


def describe(error: BaseException) -> str:
    """Describe an error to the person who configured the environment: its message, with its type if necessary."""
    return str(error) if isinstance(error, (*_CONFIGURATION, EnvironmentAway)) else f"{type(error).__name__}: {error}"


def claim_pipes() -> tuple[IO[str], IO[str]]:
    """Keep the pipes for the protocol: readers of standard input get nothing, and prints go to stderr."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _end_with_parent() -> None:
    """Die with the parent on Linux, even in the middle of a request; elsewhere when the input ends."""
    if sys.platform == "linux":
        die_with_parent(signal.SIGKILL)


if __name__ == "__main__":
    main()
