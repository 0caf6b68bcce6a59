"""The OpenEnv protocol as a client speaks it: HTTP for what a server has, a WebSocket for each episode.

Written against openenv 0.10.0 (BSD-3-Clause), and tested against its server. Its own client is not used: the package
brings gradio, fastmcp, openai and 100 others with it, and of them an episode needs ``websockets``, as that client does.

    GET  /metadata, /schema              name, description, JSON schemas
    GET  /list_environments              then, where a server has tasks:
    GET  /NAME/splits
    POST /NAME/num_tasks, /task_range
    WS   /ws                             {"type": "reset", "data": {...}}, {"type": "step", "data": ACTION}, answered by
                                         {"type": "observation", "data": {"observation", "reward", "done"}} or
                                         {"type": "error", "data": {"message", "code"}}
"""

from __future__ import annotations

import ipaddress
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import ConcurrencyError, ConnectionClosed
from websockets.frames import CloseCode
from websockets.sync.client import connect

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_CLOSE_SECONDS = 10.0  # seconds for a server to let go of a session
_TASKS_PER_REQUEST = 500


class ServerError(Exception):
    """The server answered with an error; ``code`` is the protocol's, or of HTTP."""

    def __init__(self, message: str, code: str | int) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a reset or a step. Only its types are checked."""

    observation: Mapping[str, Any]
    reward: float | None
    done: bool


class Server:
    """A client for a server's description of itself, by HTTP.

    Args:
        url: of the server.
        patience: seconds for an answer.
        headers: sent to this server, and to none that it redirects to.
    """

    def __init__(self, url: str, *, patience: float, headers: Mapping[str, str] | None = None) -> None:
        self._url = _replace_scheme(url, {"ws": "http", "wss": "https"})
        self._patience = patience
        self._headers = headers or {}
        handlers = [urllib.request.ProxyHandler({})] if _is_loopback(url) else []
        self._opener = urllib.request.build_opener(*handlers)

    def metadata(self) -> Mapping[str, Any]:
        """Return ``name`` and ``description``, among others."""
        return _check_mapping(self._ask("/metadata"))

    def schema(self) -> Mapping[str, Any]:
        """Return the JSON schemas ``action`` and ``observation``, among others."""
        return _check_mapping(self._ask("/schema"))

    def splits(self) -> tuple[str, list[str]]:
        """Return the name that tasks are requested by, and the splits; both empty on a server without tasks."""
        try:
            name = str(self._ask("/list_environments")[0])
            return name, [str(split["name"]) for split in self._ask(f"/{name}/splits")]
        except ServerError as error:
            if error.code in (404, 501):
                return "", []
            raise

    def tasks(self, name: str, split: str) -> list[Any]:
        """Return all tasks of a split: texts, or whatever the environment describes a task by."""
        number = self._ask(f"/{name}/num_tasks", {"split": split})["num_tasks"]
        tasks: list[Any] = []
        while len(tasks) < number:
            bounds = {"start": len(tasks), "stop": min(number, len(tasks) + _TASKS_PER_REQUEST)}
            page = self._ask(f"/{name}/task_range", {"split": split, **bounds})["tasks"]
            if not page:
                raise ValueError(f"the server has {number} tasks in the split {split}, and shows {len(tasks)}")
            tasks += page
        return tasks

    def _ask(self, path: str, body: Any = None) -> Any:
        """Return the server's answer. Raises OSError without an answer, ServerError, ValueError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})  # noqa: S310
        for name, value in self._headers.items():
            request.add_unredirected_header(name, value)
        try:
            with self._opener.open(request, timeout=self._patience) as response:
                return json.loads(response.read(MAX_MESSAGE_BYTES))
        except urllib.error.HTTPError as error:
            raise ServerError(f"{path}: {error.reason}", error.code) from error


class Connection:
    """One session on a server, which lives as long as its WebSocket.

    Args:
        url: of the server.
        patience: seconds for the handshake.
        headers: sent with it; ``websockets`` leaves Authorization out where it is led to another server.
    """

    def __init__(self, url: str, *, patience: float, headers: Mapping[str, str] | None = None) -> None:
        """Connect. Raises OSError, TimeoutError, or websockets' InvalidHandshake."""
        options: dict[str, Any] = {"proxy": None} if _is_loopback(url) else {}
        self._stack = ExitStack()
        self._socket = self._stack.enter_context(
            connect(
                _replace_scheme(url, {"http": "ws", "https": "wss"}) + "/ws",
                open_timeout=patience,
                close_timeout=_CLOSE_SECONDS,
                max_size=MAX_MESSAGE_BYTES,
                additional_headers=dict(headers or {}),
                **options,
            )
        )

    def reset(self, parameters: Mapping[str, Any]) -> Result:
        """Start an episode. Raises as :meth:`step`."""
        return self._ask({"type": "reset", "data": dict(parameters)})

    def step(self, action: Mapping[str, Any]) -> Result:
        """Carry out one action.

        Raises:
            ServerError: the environment refused the action (VALIDATION_ERROR), failed at it (EXECUTION_ERROR), or there
                is no room for the session (CAPACITY_REACHED).
            ValueError: the answer is not of the protocol.
            ConnectionClosed: the server is gone, or what it sent was too long or no text.
        """
        return self._ask({"type": "step", "data": dict(action)})

    def close(self) -> None:
        """End the session, and wait until the server has: then it has room for the next.

        Another thread that waits for an answer gets :class:`ConnectionClosed`.
        """
        with suppress(ConnectionClosed, TimeoutError, ConcurrencyError):
            self._socket.send(json.dumps({"type": "close"}))
            self._socket.recv(timeout=_CLOSE_SECONDS)
        self._stack.close()

    def _ask(self, message: Mapping[str, Any]) -> Result:
        with suppress(ConnectionClosed):  # a server without room says so before it closes
            self._socket.send(json.dumps(message))
        answer = _check_mapping(json.loads(self._socket.recv(decode=True)))
        data = _check_mapping(answer.get("data"))
        match answer.get("type"):
            case "observation":
                return _read_result(data)
            case "error":
                problems = [str(problem.get("msg")) for problem in data.get("errors", ()) if isinstance(problem, dict)]
                raise ServerError("; ".join([str(data.get("message")), *problems]), str(data.get("code")))
            case other:
                raise ValueError(f"the server answered with a message of type {other!r}")


def is_gone(error: ConnectionClosed) -> bool:
    """Return whether a connection closed because the server went away or restarts, and not because of a message."""
    if error.rcvd is not None:
        return error.rcvd.code in (CloseCode.GOING_AWAY, CloseCode.SERVICE_RESTART, CloseCode.TRY_AGAIN_LATER)
    return error.sent is None or error.sent.code == CloseCode.INTERNAL_ERROR  # no answer to a ping


def _read_result(data: Mapping[str, Any]) -> Result:
    observation, reward, done = data.get("observation"), data.get("reward"), data.get("done")
    if isinstance(reward, bool):
        reward = float(reward)
    if not isinstance(observation, dict):
        raise ValueError(f"the server's observation is {observation!r:.200}, not an object")
    if reward is not None and not isinstance(reward, int | float):
        raise ValueError(f"the server's reward is {reward!r:.200}, not a number")
    if not isinstance(done, bool):
        raise ValueError(f"the server's done is {done!r:.200}, not true or false")
    return Result(observation, reward, done)


def _check_mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"the server answered with {value!r:.200}, not with an object")
    return value


def _replace_scheme(url: str, schemes: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    return urlunsplit((schemes.get(parts.scheme, parts.scheme), parts.netloc, parts.path.rstrip("/"), "", ""))


def _is_loopback(url: str) -> bool:
    """Return whether a server is on this machine, where no proxy is used."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
