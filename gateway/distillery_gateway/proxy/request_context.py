"""A request and the state of its response, as ASGI has them."""

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
from distillery_gateway.errors import ApiError, ClientGone

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class RequestContext:
    """A request and the state of its response.

    Attributes:
        scope: of ASGI.
        receive: of ASGI.
        send: of ASGI.
        started: when the request arrived, in monotonic seconds.
        request_id: for logs, here and behind.
        key: of the client; None if no key is needed.
        alias: the model's name for clients; empty before it is known.
        model: the name of the model that answers, for metrics and logs.
        status: of the response; 0 before it begins.
        headers: of the request, with names in lower case.
    """

    scope: Scope
    receive: Receive
    send: Send
    started: float = field(default_factory=time.monotonic)
    request_id: str = ""
    key: Key | None = None
    alias: str = ""
    model: str = ""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.scope["headers"]
        }
        request_id = self.headers.get("x-request-id", "")
        self.request_id = request_id if _REQUEST_ID.fullmatch(request_id) else uuid.uuid4().hex

    @property
    def key_name(self) -> str:
        """The name of the client's key; empty if no key is needed."""
        return self.key.name if self.key else ""

    def trust(self) -> None:
        """Let the connection stay open between requests, for this one was admitted."""
        if trust := self.scope.get("state", {}).get("trust"):
            trust()

    async def cut(self) -> bool:
        """Close the connection within a response, so that the client notices the failure; False if that can't be."""
        if close := self.scope.get("state", {}).get("cut"):
            close()
            await self.wait_for_disconnect()
            return True
        return False

    async def read(self, limits: Limits, reserve: Callable[[int], None]) -> bytes:
        """Read the whole body. Raises :class:`ApiError` if it is too large or too slow.

        Args:
            limits: the gateway's.
            reserve: called with the number of bytes so far.
        """
        too_large = ApiError(413, "body_too_large", f"A body has at most {limits.max_body_bytes} bytes.")
        announced = self.headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > limits.max_body_bytes:
            raise too_large
        parts, size = list[bytes](), 0
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
                    reserve(size)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            message = f"The body did not arrive within {limits.body_timeout_seconds:.0f} s."
            raise ApiError(408, "body_too_slow", message) from None

    async def wait_for_disconnect(self) -> None:
        """Return once the client is gone; the body must have been read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send the status and the headers of a response."""
        self.status = status
        encoded = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in (*headers, ("x-request-id", self.request_id))]
        await self.send({"type": "http.response.start", "status": status, "headers": encoded})

    async def respond(self, status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send a whole response."""
        fixed = (("content-type", "application/json"), ("content-length", str(len(body))))
        await self.begin(status, (*fixed, *headers))
        await self.send({"type": "http.response.body", "body": body})
