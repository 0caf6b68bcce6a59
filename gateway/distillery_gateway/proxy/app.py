"""The gateway as an ASGI application: one request from its arrival to its end."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from distillery_gateway.auth.api_keys import Key, KeyRing
from distillery_gateway.auth.rate_limits import Limits, Meter
from distillery_gateway.capture.writer import Capture, Tape
from distillery_gateway.errors import Refusal, no_such_model
from distillery_gateway.metrics import Metrics
from distillery_gateway.proxy import outcomes
from distillery_gateway.proxy.attempts import Attempt
from distillery_gateway.proxy.request_context import ClientGone, Exchange, Receive, Scope, Send
from distillery_gateway.proxy.upstream import Progress
from distillery_gateway.proxy.validation import CHAT, ENDPOINTS, demands_format, dump, opening, parse
from distillery_gateway.routing.document import Target
from distillery_gateway.routing.table import Routes
from distillery_gateway.routing.traffic import Answer, session_id

_log = logging.getLogger("distillery_gateway.proxy.validation")

_SESSION = "x-session-id"
_SHADOWS_AT_ONCE = 8
_ASK_FOR_KEY = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request as it is sent on."""

    target: Target
    url: str
    sent: bytes
    session: bytes | None


class Gateway:
    """The application.

    Args:
        session: to upstreams.
        upstream: URL of the vLLM of this pod.
        routes: who answers.
        keys: who may ask.
        limits: how much.
        metrics: what is counted.
        denied: parameters that the server behind can't stand.
        capture: keeps what sessions play; None if nothing is to be kept.
        progress: of the vLLM of this pod.
        per_key_limits: whether keys are held to their limits here.
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
        capture: Capture | None = None,
        progress: Progress | None = None,
        per_key_limits: bool = True,
    ) -> None:
        self._session = session
        self._upstream = upstream
        self._routes = routes
        self._keys = keys
        self._limits = limits
        self._meter = Meter(limits, per_key=per_key_limits)
        self._metrics = metrics
        self._denied = denied
        self._capture = capture
        self._progress = progress
        self._shadows: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")  # a websocket: uvicorn refuses it then
        exchange = Exchange(scope, receive, send)
        self._metrics.running.inc()
        try:
            await self._serve(exchange)
        except Refusal as refusal:
            if exchange.status == 0:
                await exchange.answer(refusal.status, refusal.body, refusal.headers.items())
        except (aiohttp.ClientError, TimeoutError):  # of the server behind, within an answer
            if not await exchange.cut():
                raise
        except ClientGone:
            self._metrics.cancelled.inc()
            exchange.status = exchange.status or 499
        finally:
            self._metrics.running.dec()
            self._tell(exchange)

    async def _serve(self, exchange: Exchange) -> None:
        method, path = exchange.scope["method"], exchange.scope["path"]
        if path not in ("/v1/models", outcomes.PATH) and path not in ENDPOINTS:
            raise Refusal(404, "not_found", "There is no such endpoint.")
        if method != ("GET" if path == "/v1/models" else "POST"):
            raise Refusal(405, "method_not_allowed", "The endpoint knows another method.")
        exchange.key = self._authenticate(exchange)
        exchange.trust()
        if path == "/v1/models":
            await exchange.answer(200, self._models(exchange.key))
            return
        with self._meter.admitted(exchange.key), self._meter.bodies(exchange.key) as hold:
            raw = await exchange.read(self._limits, hold)
            if path == outcomes.PATH:
                await exchange.answer(200, self._count(exchange.key, outcomes.parse(raw)))
                return
            prepared = self._prepare(exchange, path, raw)
            del raw
            hold(len(prepared.sent))
            await self._answer(exchange, prepared)

    def _authenticate(self, exchange: Exchange) -> Key | None:
        if self._keys.open:
            return None
        key = self._keys.find(exchange.headers.get("authorization", ""))
        if key is None:
            message = "Send an API key that is valid here, as a bearer token."
            raise Refusal(401, "invalid_api_key", message, headers=_ASK_FOR_KEY)
        if key.is_expired(datetime.now(UTC)):
            message = f"This API key expired at {key.expires}. Ask for a new one."
            raise Refusal(401, "expired_api_key", message, headers=_ASK_FOR_KEY)
        return key

    def _models(self, key: Key | None) -> bytes:
        allowed = [alias for alias in sorted(self._routes.aliases) if _may_use(key, alias)]
        data = [{"id": alias, "object": "model", "created": 0, "owned_by": "distillery"} for alias in allowed]
        return json.dumps({"object": "list", "data": data}).encode()

    def _target(self, key: Key | None, alias: str, session: str) -> Target:
        """Who answers a session. Raises :class:`Refusal`, the same where the key may not know of the alias."""
        if not _may_use(key, alias):
            raise no_such_model(alias)
        return self._routes.target(alias, session)

    def _count(self, key: Key | None, outcome: outcomes.Outcome) -> bytes:
        """Count how a session ended, if it was answered here, for the target that answered it."""
        alias = outcome.model
        self._target(key, alias, outcome.session)  # refuses a key that may not know of the alias
        if self._capture:
            self._capture.keep_outcome(
                session=outcome.session, alias=alias, success=outcome.success, reward=outcome.reward, task=outcome.task
            )
        session = session_id(key.name if key else "", alias, outcome.session)
        target = self._routes.live.outcome(session, success=outcome.success)
        if target:
            self._metrics.outcomes.labels(alias, target.called, str(outcome.success).lower()).inc()
        return json.dumps({"session": outcome.session, "model": alias, "counted": target is not None}).encode()

    def _prepare(self, exchange: Exchange, path: str, raw: bytes) -> _Prepared:
        """What is sent for a request. Its objects, many times as large, end here: answers can take minutes."""
        body = parse(path, raw, self._limits, denied=self._denied, context=self._routes.context)
        alias = body["model"]
        key = exchange.key.name if exchange.key else ""
        named = exchange.headers.get(_SESSION) or str(body.get("user") or "")
        begun = f"{key}\0{start}" if not named and (start := opening(body)) else ""
        target = self._target(exchange.key, alias, named or begun or exchange.identity)
        exchange.alias, exchange.model = alias, target.called
        sent = _body_for(target, body)
        if self._capture and _SESSION in exchange.headers and path == CHAT:
            kept, stream = exchange.headers[_SESSION], bool(body.get("stream"))
            exchange.tape = self._capture.tape(sent, session=kept, alias=alias, model=target.called, stream=stream)
        exchange.formatted = demands_format(body)
        exchange.attempt = Attempt.of(exchange.headers, key, named, path, sent)
        shadow = self._routes.shadow(alias)
        if shadow and len(self._shadows) < _SHADOWS_AT_ONCE:
            # streamed or not as the client asked for it: else the first token would not come when the client's does
            self._send_shadow(exchange, shadow, path, _body_for(shadow, body))
        session = session_id(key, alias, named) if named else None
        return _Prepared(target, self._url(target, path), sent, session)

    async def _answer(self, exchange: Exchange, prepared: _Prepared) -> None:
        target = prepared.target
        live, session = self._routes.live, prepared.session
        counted = live.request(target, exchange.attempt, session=session, formatted=exchange.formatted)
        with counted as seen, self._routes.running(target.model):
            local = self._progress if self._progress and not target.upstream else None
            if local:
                exchange.heard = local.heard
            try:
                with local.request() if local else nullcontext():
                    await self._relay(exchange, prepared.url, prepared.sent, _headers_for(target, exchange), seen)
            finally:
                self._keep(exchange.tape)

    def _keep(self, tape: Tape | None) -> None:
        """Keep what was answered. A client may leave at the last word, so whether all was said is seen by the words."""
        if self._capture and tape:
            self._capture.keep(tape)

    def _url(self, target: Target, path: str) -> str:
        return (target.upstream or self._upstream) + path

    async def _relay(self, exchange: Exchange, url: str, body: bytes, headers: dict[str, str], seen: Answer) -> None:
        """Pass the answer through as it comes; give up upstream when the client does."""
        work = asyncio.ensure_future(self._pass_through(exchange, url, body, headers, seen))
        gone = asyncio.ensure_future(exchange.disconnected())
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGone
            await work
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    async def _pass_through(
        self, exchange: Exchange, url: str, body: bytes, headers: dict[str, str], seen: Answer
    ) -> None:
        try:
            async with self._session.post(url, data=body, headers=headers) as answer:
                if answer.status >= 400:
                    exchange.heard()
                    raise self._refusal(answer.status, await answer.read(), exchange, answer.headers)
                passed = [(n, answer.headers[n]) for n in ("content-type", "content-length") if n in answer.headers]
                await exchange.begin(answer.status, passed)
                async for chunk in answer.content.iter_any():
                    if not seen.begun:  # vLLM sends its headers before it generates
                        self._metrics.first_byte.labels(exchange.alias).observe(time.monotonic() - exchange.started)
                    exchange.heard()
                    seen.see(chunk)
                    if exchange.tape:
                        exchange.tape.add(chunk)
                    await exchange.send({"type": "http.response.body", "body": chunk, "more_body": True})
                await exchange.send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.warning("%s: upstream failed: %s", exchange.identity, type(error).__name__)
            if exchange.status:
                raise  # the answer has begun: it ends here, broken, and the client sees that
            message, later = "The model's server failed; try again.", {"Retry-After": "1"}
            raise Refusal(503, "upstream_failed", message, headers=later) from error

    def _send_shadow(self, exchange: Exchange, target: Target, path: str, sent: bytes) -> None:
        """Send a copy whose answer nobody waits for."""
        headers, live = _headers_for(target, exchange), self._routes.live

        async def copy() -> None:
            try:
                request = live.request(target, exchange.attempt, formatted=exchange.formatted)
                with request as seen, self._routes.running(target.model):
                    async with self._session.post(self._url(target, path), data=sent, headers=headers) as answer:
                        if answer.status >= 400:
                            raise self._refusal(answer.status, await answer.read(), exchange, answer.headers)
                        async for chunk in answer.content.iter_any():
                            seen.see(chunk)
            except (Refusal, aiohttp.ClientError, TimeoutError) as error:
                _log.info("a shadow failed: %s", error.status if isinstance(error, Refusal) else type(error).__name__)

        task = asyncio.create_task(copy())
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    def _refusal(self, status: int, raw: bytes, exchange: Exchange, headers: Mapping[str, str]) -> Refusal:
        """What the client is told of an error of the server behind: its words about the request, nothing of itself."""
        given = headers.get("Retry-After", "")
        later = {"Retry-After": given if given.isdigit() else "1"}
        if status == 404:
            message = "The model is not being served at the moment; try again."
            return Refusal(503, "model_not_ready", message, headers=later)
        if status == 500 and exchange.formatted:
            # vLLM says no more than that where its grammar refuses all tokens; a retry would end the same way
            message = "The model could not write the format that the request demands."
            return Refusal(422, "format_not_generated", message)
        if status >= 500:
            return Refusal(503, "upstream_failed", "The model's server failed; try again.", headers=later)
        later = later if status == 429 else {}
        try:
            document = json.loads(raw)
            error = document.get("error", document)
            # whichever of its models it speaks of, the client asked for this one
            names = "|".join(map(re.escape, {exchange.model, *self._routes.held}))
            message = re.sub(rf"(?<![\w-])(?:{names})(?![\w-])", exchange.alias, str(error["message"])[:1000])
            code = str(error.get("code") or "")
            told = "invalid_request" if not code or code.isdigit() else code
            return Refusal(status, told, message, error.get("param"), later)
        except (ValueError, KeyError, TypeError, AttributeError):
            return Refusal(status, "invalid_request", "The model's server refused the request.", headers=later)

    def _tell(self, exchange: Exchange) -> None:
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


def _body_for(target: Target, body: dict[str, Any]) -> bytes:
    """Another gateway knows the alias, not what stands behind it here."""
    return dump(body if target.upstream else {**body, "model": target.model})


def _headers_for(target: Target, exchange: Exchange) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "X-Request-ID": exchange.identity}
    if target.upstream:
        headers |= {name: exchange.headers[name] for name in ("authorization", _SESSION) if name in exchange.headers}
    return headers
