"""The gateway as an ASGI application: one request from its arrival to its end."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from distillery_gateway.errors import Refusal, no_such_model
from distillery_gateway.keys import Key, KeyRing
from distillery_gateway.limits import Limits, Meter
from distillery_gateway.metrics import Metrics
from distillery_gateway.requests import ENDPOINTS, parse
from distillery_gateway.routing import Routes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log = logging.getLogger("distillery_gateway.requests")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SESSION = "x-session-id"
_SHADOWS_AT_ONCE = 8


class _ClientGone(Exception):
    """There is nobody to answer any more."""


@dataclass
class _Exchange:
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
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.scope["headers"]
        }
        given = self.headers.get("x-request-id", "")
        self.identity = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

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


class Gateway:
    """The application.

    Args:
        session: to upstreams.
        upstream: URL of the vLLM beside this process.
        routes: who answers.
        keys: who may ask.
        limits: how much.
        metrics: what is counted.
        denied: parameters that the server behind can't stand.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        upstream: str,
        routes: Routes,
        keys: KeyRing,
        limits: Limits,
        metrics: Metrics,
        *,
        denied: frozenset[str] = frozenset(),
    ) -> None:
        self._session = session
        self._upstream = upstream
        self._routes = routes
        self._keys = keys
        self._limits = limits
        self._meter = Meter(limits)
        self._metrics = metrics
        self._denied = denied
        self._shadows: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")  # a websocket: uvicorn refuses it then
        exchange = _Exchange(scope, receive, send)
        self._metrics.running.inc()
        try:
            await self._serve(exchange)
        except Refusal as refusal:
            if exchange.status == 0:
                await exchange.answer(refusal.status, refusal.body, refusal.headers.items())
        except _ClientGone:
            self._metrics.cancelled.inc()
            exchange.status = exchange.status or 499
        finally:
            self._metrics.running.dec()
            self._tell(exchange)

    async def _serve(self, exchange: _Exchange) -> None:
        method, path = exchange.scope["method"], exchange.scope["path"]
        if path != "/v1/models" and path not in ENDPOINTS:
            raise Refusal(404, "not_found", "There is no such endpoint.")
        if method != ("GET" if path == "/v1/models" else "POST"):
            raise Refusal(405, "method_not_allowed", "The endpoint knows another method.")
        exchange.key = self._authenticate(exchange)
        if path == "/v1/models":
            await exchange.answer(200, self._models(exchange.key))
            return
        with self._meter.admitted(exchange.key):
            body = parse(path, await self._read(exchange), self._limits, denied=self._denied)
            await self._route(exchange, path, body)

    def _authenticate(self, exchange: _Exchange) -> Key | None:
        if self._keys.open:
            return None
        key = self._keys.find(exchange.headers.get("authorization", ""))
        if key is None:
            message = "Send an API key that is valid here, as a bearer token."
            raise Refusal(401, "invalid_api_key", message, headers={"WWW-Authenticate": "Bearer"})
        return key

    def _models(self, key: Key | None) -> bytes:
        allowed = [alias for alias in sorted(self._routes.aliases) if _may_use(key, alias)]
        data = [{"id": alias, "object": "model", "created": 0, "owned_by": "distillery"} for alias in allowed]
        return json.dumps({"object": "list", "data": data}).encode()

    async def _read(self, exchange: _Exchange) -> bytes:
        """The whole body. Raises :class:`Refusal` where it is too large or too slow."""
        too_large = Refusal(413, "body_too_large", f"A body has at most {self._limits.body_bytes} bytes.")
        announced = exchange.headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > self._limits.body_bytes:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await exchange.receive()
                    if message["type"] == "http.disconnect":
                        raise _ClientGone
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._limits.body_bytes:
                        raise too_large
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            message = f"The body did not arrive within {self._limits.body_seconds:.0f} s."
            raise Refusal(408, "body_too_slow", message) from None

    async def _route(self, exchange: _Exchange, path: str, body: dict[str, Any]) -> None:
        alias = body["model"]
        if not _may_use(exchange.key, alias):
            raise no_such_model(alias)
        session = exchange.headers.get(_SESSION) or str(body.get("user") or exchange.identity)
        target = self._routes.target(alias, session)
        exchange.alias, exchange.model = alias, target.model
        if shadow := self._routes.shadow(alias):
            self._send_shadow(path, {**body, "model": shadow, "stream": False})
        # another gateway knows the alias, not what stands behind it here
        sent = json.dumps({**body, "model": alias if target.upstream else target.model}).encode()
        headers = {"Content-Type": "application/json", "X-Request-ID": exchange.identity}
        if target.upstream:
            headers |= {
                name: exchange.headers[name] for name in ("authorization", _SESSION) if name in exchange.headers
            }
        with self._routes.running(target.model):
            await self._relay(exchange, (target.upstream or self._upstream) + path, sent, headers)

    async def _relay(self, exchange: _Exchange, url: str, body: bytes, headers: dict[str, str]) -> None:
        """Pass the answer through as it comes; give up upstream when the client does."""
        work = asyncio.ensure_future(self._pass_through(exchange, url, body, headers))
        gone = asyncio.ensure_future(_wait_for_disconnect(exchange.receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise _ClientGone
            await work
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    async def _pass_through(self, exchange: _Exchange, url: str, body: bytes, headers: dict[str, str]) -> None:
        try:
            async with self._session.post(url, data=body, headers=headers) as answer:
                if answer.status >= 400:
                    raise _refusal(answer.status, await answer.read(), exchange)
                passed = [(n, answer.headers[n]) for n in ("content-type", "content-length") if n in answer.headers]
                await exchange.begin(answer.status, passed)
                self._metrics.first_byte.labels(exchange.alias).observe(time.monotonic() - exchange.started)
                async for chunk in answer.content.iter_any():
                    await exchange.send({"type": "http.response.body", "body": chunk, "more_body": True})
                await exchange.send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.warning("%s: upstream failed: %s", exchange.identity, type(error).__name__)
            if exchange.status:
                raise  # the answer has begun: it ends here, broken, and the client sees that
            raise Refusal(503, "upstream_failed", "The model's server failed; try again.") from error

    def _send_shadow(self, path: str, body: dict[str, Any]) -> None:
        """Send a copy whose answer nobody waits for; none where too many are under way."""
        if len(self._shadows) >= _SHADOWS_AT_ONCE:
            return

        async def copy() -> None:
            try:
                with self._routes.running(body["model"]):
                    async with self._session.post(self._upstream + path, json=body) as answer:
                        await answer.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                _log.info("a shadow failed: %s", type(error).__name__)

        task = asyncio.create_task(copy())
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    def _tell(self, exchange: _Exchange) -> None:
        """Count and log a request that ended: who and what, never its content."""
        seconds = time.monotonic() - exchange.started
        key = exchange.key.name if exchange.key else ""
        self._metrics.requests.labels(exchange.alias, exchange.model, key, str(exchange.status)).inc()
        self._metrics.seconds.labels(exchange.alias).observe(seconds)
        _log.info(
            "%s key=%s alias=%s model=%s status=%d ms=%.0f",
            *(exchange.identity, key or "-", exchange.alias or "-", exchange.model or "-", exchange.status),
            seconds * 1000,
        )


def _may_use(key: Key | None, alias: str) -> bool:
    return key is None or key.models is None or alias in key.models


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _refusal(status: int, raw: bytes, exchange: _Exchange) -> Refusal:
    """What the client is told of an error of the server behind: its words about the request, nothing about itself."""
    if status == 404:
        return Refusal(503, "model_not_ready", "The model is not being served at the moment; try again.")
    if status >= 500:
        return Refusal(503, "upstream_failed", "The model's server failed; try again.")
    try:
        document = json.loads(raw)
        error = document.get("error", document)
        message = str(error["message"])[:1000].replace(exchange.model, exchange.alias)
        return Refusal(status, str(error.get("code") or "invalid_request"), message, error.get("param"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Refusal(status, "invalid_request", "The model's server refused the request.")
