"""A client of model servers that costs little: HTTP by httptools on bare connections, in a process of its own.

python -m benchmarks.support.http_load      reads a :class:`Load` as JSON, prints its turns as JSON

A turn is so many clients that ask one address so many times each, one request after the other. Addresses take turns,
and every second pair of turns is the other way round, so that what changes on the machine changes for both.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httptools
import uvloop

from distillery.core.child_processes import die_with_parent

ROOT = Path(__file__).parents[2]
_IDLE = 2.0
"""Seconds that a connection may lie idle: a vLLM hangs up after 5."""

_TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked, and how often.

    Attributes:
        addresses: base URLs, by name.
        path: below each.
        headers: of every request.
        body: of every request, as JSON.
        clients: at once.
        requests: of each client in a turn.
        turns: of each address.
    """

    addresses: Mapping[str, str]
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    clients: int
    requests: int
    turns: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of a turn.

    Attributes:
        address: whose.
        seconds: from the first request to the end of the last answer.
        first: seconds to the first byte of each answer's body.
        whole: seconds to the end of each answer.
        tokens: of all answers together.
    """

    address: str
    seconds: float
    first: Sequence[float]
    whole: Sequence[float]
    tokens: int


def carry_out(load: Load) -> list[Turn]:
    """The turns of a load, from a client in another process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.support.http_load"], input=json.dumps(asdict(load)), stdout=subprocess.PIPE,
        text=True, check=True, cwd=ROOT, preexec_fn=die_with_parent,
    )  # fmt: skip
    return [Turn(**turn) for turn in json.loads(done.stdout)]


class _Connection(asyncio.Protocol):
    """One request at a time. ``on_...`` is what httptools calls."""

    def __init__(self) -> None:
        self._body: list[bytes] = []
        self._first = self._used = time.perf_counter()
        self._answered: asyncio.Future[None] | None = None

    @classmethod
    async def to(cls, url: str) -> Self:
        """A connection to a server."""
        parts = urlsplit(url)
        _, made = await asyncio.get_running_loop().create_connection(cls, parts.hostname or "", parts.port or 80)
        return made

    @property
    def usable(self) -> bool:
        """Whether the next request may go over it."""
        return not self._transport.is_closing() and time.perf_counter() - self._used < _IDLE

    async def ask(self, request: bytes) -> tuple[float, float, int]:
        """Seconds to the first byte of the answer's body and to its end, and its tokens."""
        self._body.clear()
        self._parser = httptools.HttpResponseParser(self)
        self._answered = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        self._transport.write(request)
        await self._answered
        body = b"".join(self._body)
        found = _TOKENS.findall(body)
        if self._parser.get_status_code() != 200 or not found:
            raise RuntimeError(f"not an answer: {self._parser.get_status_code()} {body[:500]!r}")
        return self._first - started, self._used - started, int(found[-1])

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: Any) -> None:  # uvloop's derives from another class than asyncio's
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered and not self._answered.done():
            self._answered.set_exception(exc or ConnectionError("the server hung up"))

    def on_body(self, body: bytes) -> None:
        if not self._body:
            self._first = time.perf_counter()
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._used = time.perf_counter()
        if self._answered and not self._answered.done():
            self._answered.set_result(None)


def _request(load: Load, url: str) -> bytes:
    parts, body = urlsplit(url), json.dumps(load.body).encode()
    fixed = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": str(len(body))}
    headers = {**fixed, **load.headers}
    lines = [f"POST {parts.path}{load.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _take_turns(load: Load) -> list[Turn]:
    pools: dict[str, list[_Connection]] = {name: [] for name in load.addresses}
    order, turns = list(load.addresses), list[Turn]()
    await _turn(load, order[0], pools[order[0]])  # the first of all is not like the others
    for number in range(load.turns):
        for name in order[:: -1 if number % 2 else 1]:
            turns.append(await _turn(load, name, pools[name]))
    for connection in (connection for pool in pools.values() for connection in pool):
        connection.close()
    return turns


async def _turn(load: Load, name: str, pool: list[_Connection]) -> Turn:
    url = load.addresses[name]
    for connection in pool:
        if not connection.usable:
            connection.close()
    pool[:] = [connection for connection in pool if connection.usable]
    pool += [await _Connection.to(url) for _ in range(load.clients - len(pool))]
    request = _request(load, url)

    async def client(connection: _Connection) -> list[tuple[float, float, int]]:
        return [await connection.ask(request) for _ in range(load.requests)]

    started = time.perf_counter()
    answers = [answer for found in await asyncio.gather(*map(client, pool)) for answer in found]
    seconds = time.perf_counter() - started
    first, whole, tokens = zip(*answers, strict=True)
    return Turn(name, seconds, first, whole, sum(tokens))


def main() -> None:
    """Carry out what standard input says."""
    turns = uvloop.run(_take_turns(Load(**json.load(sys.stdin))))
    # an unbuffered sys.stdout would lose what a pipe does not take at once
    with open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False) as answers:
        json.dump([asdict(turn) for turn in turns], answers)


if __name__ == "__main__":
    main()
