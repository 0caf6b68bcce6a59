"""Connections to the public port, limited before the client has sent a key.

uvicorn has no limit on the size of a head, on the time that it takes to arrive, or on the number of connections. Here a
connection is *waiting* from its beginning until it has sent the head of a request, and again between two requests for
as long as no request on it was admitted. Waiting connections are few: one more ends the oldest. So a flood of
them costs bounded memory, and a client that sends its request at once is served before its turn to leave comes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from distillery_gateway.auth.rate_limits import Limits

_log = logging.getLogger(__name__)
_log.setLevel(logging.ERROR)  # uvicorn warns of each malformed request, which a flood has many of; metrics count them

_SLICE = 16 * 1024
"""Bytes that the parser gets at once. A loop hands over 256 kB, of which each connection could hold back all."""

_MAX_HEADERS = 100
_MAX_PIPELINED = 8
_IPV6_NETWORK = 64  # bits: a client has a network of addresses, not one


class Reason(StrEnum):
    """The reason why the gateway ended a connection."""

    ADDRESS = "address_limit"
    """Its address has too many connections."""
    WAITING = "waiting_limit"
    """It waited longest of too many."""
    HEAD_SIZE = "head_too_large"
    HEAD_TIME = "head_too_slow"
    SEND_TIME = "send_too_slow"
    """The client does not read its answer."""
    PIPELINED = "pipelined"
    """It sent many requests without waiting for answers."""


class Gate:
    """All connections of the public port.

    Args:
        limits: of the gateway.
        closed: called with the reason when a connection was ended.
    """

    def __init__(self, limits: Limits, closed: Callable[[Reason], None]) -> None:
        self.limits = limits
        self.closed = closed
        self._addresses: Counter[str] = Counter()
        self._waiting: OrderedDict[Connection, None] = OrderedDict()

    def enter(self, address: str) -> bool:
        """Count a connection; False if its address has too many with it."""
        self._addresses[address] += 1
        return self._addresses[address] <= self.limits.max_connections_per_address

    def leave(self, address: str) -> None:
        """Count a connection no more."""
        self._addresses[address] -= 1
        if self._addresses[address] <= 0:
            del self._addresses[address]

    def wait(self, connection: Connection) -> None:
        """Note a connection that begins to wait; end the oldest if that is one too many."""
        self._waiting[connection] = None
        if len(self._waiting) > self.limits.waiting_connections:
            oldest, _ = self._waiting.popitem(last=False)
            oldest.end(Reason.WAITING)

    def stop_waiting(self, connection: Connection) -> None:
        """Note that a connection waits no more."""
        self._waiting.pop(connection, None)

    def protocol(self) -> type[Connection]:
        """Return the protocol of a server whose connections pass this gate."""
        return type("GatedConnection", (Connection,), {"gate": self})


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with limits. See the module.

    An application that admitted a request calls ``scope["state"]["trust"]``, and ``scope["state"]["cut"]`` where an
    answer that has begun can't be ended.
    """

    gate: ClassVar[Gate]

    _address = ""
    _trusted = False
    _head_begun = False
    _message_done = True
    _headers_seen = 0
    _unparsed = 0  # bytes since the parser last finished a head, a part of a body, or a message
    _advanced = False
    _reason: Reason | None = None
    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count a connection and wait for its first request; refuse one too many from its address."""
        super().connection_made(transport)
        self.logger = _log
        self._address = _network(self.client[0]) if self.client else ""
        if self.gate.enter(self._address):
            self._wait()
        else:
            self._refuse(Reason.ADDRESS, 503, "Too many connections from your address.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers, and count the connection no more."""
        self._stop_waiting()
        self._stop_send_timer()
        self.gate.leave(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data in slices; refuse a head that is too large."""
        for start in range(0, len(data), _SLICE):
            if self.transport.is_closing():
                return
            piece = data if len(data) <= _SLICE else data[start : start + _SLICE]
            self._advanced = False
            super().data_received(piece)
            self._unparsed = 0 if self._advanced else self._unparsed + len(piece)
            if self._unparsed > self.gate.limits.head_bytes and not self.transport.is_closing():
                self._refuse_large()
        if self._idle and self._head_timer is None and not self.transport.is_closing():
            self._wait()

    def send_400_response(self, msg: str) -> None:
        """Refuse data that the parser, or a method here that it called, rejected."""
        if self._reason is Reason.HEAD_SIZE:
            self._refuse_large()
        elif self._reason or not self._idle:
            self.end(self._reason)
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Note that a head has begun, and offer the application ``trust`` and ``cut``."""
        super().on_message_begin()
        self._head_begun, self._message_done, self._headers_seen = True, False, 0
        self.scope["state"] |= {"trust": self._trust, "cut": self.transport.close}  # type: ignore[typeddict-item]

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header, or a trailer of a body; stop parsing at too many."""
        self._headers_seen += 1
        if self._headers_seen > _MAX_HEADERS:
            self._stop_parsing(Reason.HEAD_SIZE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop waiting for a head; stop parsing at too many requests in the pipeline."""
        self._advanced, self._head_begun = True, False
        self._stop_waiting()
        super().on_headers_complete()
        if len(self.pipeline) > _MAX_PIPELINED:
            self._stop_parsing(Reason.PIPELINED)

    def on_body(self, body: bytes) -> None:
        """Note that the parser advanced."""
        self._advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a request; a trusted, idle connection waits no more."""
        self._advanced = self._message_done = True
        super().on_message_complete()
        if self._trusted and self._idle:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next head, or for the rest of a body, once a request was answered."""
        last = not self.pipeline
        super().on_response_complete()
        if (
            last
            and not self.transport.is_closing()
            and (self._head_begun or not (self._trusted and self._message_done))
        ):
            self._wait()

    def pause_writing(self) -> None:
        """Start the timer for a client that reads more slowly than the model writes."""
        super().pause_writing()
        seconds = self.gate.limits.send_seconds
        self._send_timer = self._send_timer or self.loop.call_later(seconds, self.end, Reason.SEND_TIME)

    def resume_writing(self) -> None:
        """Stop the timer, for the client has continued to read."""
        self._stop_send_timer()
        super().resume_writing()

    def end(self, reason: Reason | None) -> None:
        """End the connection immediately, with any request in progress."""
        if reason:
            self.gate.closed(reason)
        self.transport.abort()

    @property
    def _idle(self) -> bool:
        """True if no request is being answered."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return cycle is None or cycle.response_complete

    def _trust(self) -> None:
        self._trusted = True

    def _wait(self) -> None:
        """Wait for the next head, or for the rest of a body that nobody reads, for a limited time."""
        if self._trusted and self._message_done and not self._head_begun and not self._unparsed:
            return  # kept alive between two requests
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.gate.limits.head_seconds, self._too_slow)
            self.gate.wait(self)

    def _stop_waiting(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None
            self.gate.stop_waiting(self)

    def _stop_send_timer(self) -> None:
        if self._send_timer:
            self._send_timer.cancel()
            self._send_timer = None

    def _too_slow(self) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        if self._head_begun:
            self._refuse(Reason.HEAD_TIME, 408, "The request's head did not arrive in time.")
        else:
            self.gate.closed(Reason.HEAD_TIME)
            self.transport.close()

    def _stop_parsing(self, reason: Reason) -> None:
        """Leave the parser, which reports it to :meth:`send_400_response`."""
        self._reason = reason
        raise ValueError(reason)

    def _refuse_large(self) -> None:
        self._refuse(Reason.HEAD_SIZE, 431, "The request's head is too large.")

    def _refuse(self, reason: Reason, status: int, message: str) -> None:
        """Answer if no other response is in progress, and close."""
        self._stop_waiting()
        if not self._idle:
            self.end(reason)
            return
        self.gate.closed(reason)
        head = f"content-type: text/plain\r\ncontent-length: {len(message)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head.encode() + message.encode())
        self.transport.close()


def _network(address: str) -> str:
    """Return the address, or the network of an IPv6 address."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], _IPV6_NETWORK), strict=False))
