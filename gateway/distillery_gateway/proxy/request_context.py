"""A request and what becomes of it, as ASGI has them."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from distillery_gateway.auth.api_keys import Key
from distillery_gateway.auth.rate_limits import Limits
from distillery_gateway.capture.writer import Tape
from distillery_gateway.errors import Refusal
from distillery_gateway.proxy.attempts import Attempt

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ClientGone(Exception):
    """The end of the client's connection: there is nobody to answer any more."""


@dataclass
class Exchange:
    """A request, and what becomes of it."""

    scope: Scope
    receive: Receive
    send: Send
    started: float = field(default_factory=time.monotonic)
    identity: str = ""
    key: Key | None = None
    alias: str = ""
    model: str = ""
    status: int = 0
    tape: Tape | None = None
    attempt: Attempt = field(default_factory=Attempt)
    formatted: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    heard: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.scope["headers"]
        }
        given = self.headers.get("x-request-id", "")
        self.identity = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

    def trust(self) -> None:
        """Let the connection stay open between requests, for this one was admitted."""
        if trust := self.scope.get("state", {}).get("trust"):
            trust()

    async def cut(self) -> bool:
        """Close the connection within an answer, so that the client sees that it is broken; False if that can't be."""
        if close := self.scope.get("state", {}).get("cut"):
            close()
            await self.disconnected()
            return True
        return False

    async def read(self, limits: Limits, hold: Callable[[int], None]) -> bytes:
        """Read the whole body. Raises :class:`Refusal` if it is too large or too slow.

        Args:
            limits: the gateway's.
            hold: called with the number of bytes so far.
        """
        too_large = Refusal(413, "body_too_large", f"A body has at most {limits.max_body_bytes} bytes.")
        announced = self.headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > limits.max_body_bytes:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(limits.body_timeout_seconds):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > limits.max_body_bytes:
                        raise too_large
                    hold(size)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            message = f"The body did not arrive within {limits.body_timeout_seconds:.0f} s."
            raise Refusal(408, "body_too_slow", message) from None

    async def disconnected(self) -> None:
        """Return once the client is gone; the body must have been read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send the beginning of an answer."""
        self.status = status
        sent = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in (*headers, ("x-request-id", self.identity))]
        await self.send({"type": "http.response.start", "status": status, "headers": sent})

    async def answer(self, status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send a whole answer."""
        fixed = (("content-type", "application/json"), ("content-length", str(len(body))))
        await self.begin(status, (*fixed, *headers))
        await self.send({"type": "http.response.body", "body": body})
