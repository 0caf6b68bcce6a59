"""The gateway as an ASGI application: routes, authentication, and the choice of the model that answers."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from distillery.core.contracts.capture import CapturedOutcome
from distillery.core.contracts.routing import Target
from distillery_gateway import sessions
from distillery_gateway.auth.api_keys import ApiKeyStore, Key
from distillery_gateway.auth.rate_limits import RateLimiter
from distillery_gateway.capture.session_record import SessionRecord
from distillery_gateway.capture.writer import Capture
from distillery_gateway.errors import ApiError, ClientGone, model_not_found
from distillery_gateway.metrics import Metrics
from distillery_gateway.proxy import outcomes
from distillery_gateway.proxy.mirror import Mirror
from distillery_gateway.proxy.relay import Relay
from distillery_gateway.proxy.request_context import Receive, RequestContext, Scope, Send
from distillery_gateway.proxy.upstream import Progress
from distillery_gateway.proxy.upstream_request import UpstreamRequest, body_for, headers_for
from distillery_gateway.proxy.validation import CHAT, ENDPOINTS, conversation_start, demands_format, parse
from distillery_gateway.routing.attempts import Attempt
from distillery_gateway.routing.table import Routes
from distillery_gateway.sessions import session_digest

_log = logging.getLogger("distillery_gateway.requests")

_MODELS = "/v1/models"
_BEARER = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Services:
    """The collaborators of the gateway.

    Attributes:
        client: to upstreams.
        upstream: URL of the vLLM of this pod.
        routes: the targets of each alias.
        api_keys: of the clients.
        rate_limiter: the limits of each key, and the gateway's.
        metrics: the gateway's.
        denied: parameters that would end vLLM.
        capture: of sessions; None if none are captured.
        progress: of the vLLM of this pod; None if nobody watches it.
    """

    client: aiohttp.ClientSession
    upstream: str
    routes: Routes
    api_keys: ApiKeyStore
    rate_limiter: RateLimiter
    metrics: Metrics
    denied: frozenset[str] = frozenset()
    capture: Capture | None = None
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request that is ready to be sent, and the record of it, if its session is captured."""

    request: UpstreamRequest
    record: SessionRecord | None


class Gateway:
    """The application.

    Args:
        services: the collaborators.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._routes = services.routes
        self._limiter = services.rate_limiter
        self._metrics = services.metrics
        self._relay = Relay(services.client, services.routes, services.metrics, services.progress)
        self._mirror = Mirror(services.client, services.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")  # a websocket: uvicorn refuses it then
        context = RequestContext(scope, receive, send)
        self._metrics.running.inc()
        try:
            await self._serve(context)
        except ApiError as error:
            if context.status == 0:
                await context.respond(error.status, error.body, error.headers.items())
        except (aiohttp.ClientError, TimeoutError):  # of the server behind, within a response
            if not await context.cut():
                raise
        except ClientGone:
            self._metrics.cancelled.inc()
            context.status = context.status or 499
        finally:
            self._metrics.running.dec()
            self._log_end(context)

    async def _serve(self, context: RequestContext) -> None:
        method, path = context.scope["method"], context.scope["path"]
        if path not in (_MODELS, outcomes.PATH) and path not in ENDPOINTS:
            raise ApiError(404, "not_found", "There is no such endpoint.")
        if method != ("GET" if path == _MODELS else "POST"):
            raise ApiError(405, "method_not_allowed", "The endpoint knows another method.")
        context.key = self._authenticate(context)
        context.trust()
        if path == _MODELS:
            await context.respond(200, self._list_models(context.key))
            return
        with self._limiter.admit(context.key), self._limiter.reserve_body(context.key) as reserve:
            raw = await context.read(self._limiter.limits, reserve)
            if path == outcomes.PATH:
                await context.respond(200, self._count_outcome(context, outcomes.parse(raw)))
                return
            prepared = self._prepare(context, path, raw)
            del raw
            reserve(len(prepared.request.body))
            await self._answer(context, prepared)

    def _authenticate(self, context: RequestContext) -> Key | None:
        if self._services.api_keys.open:
            return None
        key = self._services.api_keys.find(context.headers.get("authorization", ""))
        if key is None:
            message = "Send an API key that is valid here, as a bearer token."
            raise ApiError(401, "invalid_api_key", message, headers=_BEARER)
        if key.is_expired(datetime.now(UTC)):
            message = f"This API key expired at {key.expires}. Ask for a new one."
            raise ApiError(401, "expired_api_key", message, headers=_BEARER)
        return key

    def _list_models(self, key: Key | None) -> bytes:
        allowed = [alias for alias in sorted(self._routes.aliases) if _may_use(key, alias)]
        data = [{"id": alias, "object": "model", "created": 0, "owned_by": "distillery"} for alias in allowed]
        return json.dumps({"object": "list", "data": data}).encode()

    def _target(self, key: Key | None, alias: str, session: str) -> Target:
        """Return the target of a session. Raises :class:`ApiError`, the same if the key may not use the alias."""
        if not _may_use(key, alias):
            raise model_not_found(alias)
        return self._routes.target(alias, session)

    def _count_outcome(self, context: RequestContext, outcome: outcomes.ReportedOutcome) -> bytes:
        """Count an outcome for the target that answered the session, if one of this pod did. Return the response."""
        alias = outcome.model
        self._target(context.key, alias, outcome.session)  # rejects a key that may not use the alias
        if self._services.capture:
            captured = CapturedOutcome(
                session=outcome.session,
                alias=alias,
                success=outcome.success,
                reward=outcome.reward,
                task=outcome.task,
                time=datetime.now(UTC),
            )
            self._services.capture.add_outcome(captured)
        session = session_digest(context.key_name, alias, outcome.session)
        target = self._routes.traffic.count_outcome(session, success=outcome.success)
        if target:
            self._metrics.outcomes.labels(alias, target.display_name, str(outcome.success).lower()).inc()
        return json.dumps({"session": outcome.session, "model": alias, "counted": target is not None}).encode()

    def _prepare(self, context: RequestContext, path: str, raw: bytes) -> _Prepared:
        """Return what is sent for a request, and send its copy if there is one.

        The objects of the body, many times as large as the body, end here: a response can take minutes.
        """
        services = self._services
        body = parse(path, raw, self._limiter.limits, denied=services.denied, context=self._routes.context)
        alias = context.alias = body["model"]
        name = context.headers.get(sessions.HEADER) or str(body.get("user") or "")
        target = self._target(context.key, alias, name or self._conversation(context, body))
        context.model = target.display_name
        sent = body_for(target, body)
        record = self._start_record(context, path, sent, stream=bool(body.get("stream")))
        request = UpstreamRequest(
            target=target,
            url=self._url(target, path),
            body=sent,
            headers=headers_for(target, context),
            attempt=Attempt.of(context.headers, context.key_name, name, path, sent),
            formatted=demands_format(body),
            session=session_digest(context.key_name, alias, name) if name else None,
        )
        self._send_copy(context, path, body, request)
        return _Prepared(request, record)

    def _conversation(self, context: RequestContext, body: dict[str, Any]) -> str:
        """Return a name for the session of a request that names none: its key and the beginning of its messages."""
        start = conversation_start(body)
        return f"{context.key_name}\0{start}" if start else context.request_id

    def _start_record(self, context: RequestContext, path: str, sent: bytes, *, stream: bool) -> SessionRecord | None:
        capture, session = self._services.capture, context.headers.get(sessions.HEADER)
        if capture is None or session is None or path != CHAT:
            return None
        return capture.start_record(sent, session=session, alias=context.alias, model=context.model, stream=stream)

    def _send_copy(self, context: RequestContext, path: str, body: dict[str, Any], request: UpstreamRequest) -> None:
        """Send a copy to a canary that gets copies.

        It is streamed or not as the client asked for it: else the first token would not come when the client's does.
        """
        shadow = self._routes.shadow(context.alias)
        if shadow and self._mirror.has_capacity:
            copy = UpstreamRequest(
                target=shadow,
                url=self._url(shadow, path),
                body=body_for(shadow, body),
                headers=headers_for(shadow, context),
                attempt=request.attempt,
                formatted=request.formatted,
            )
            self._mirror.send(copy, context)

    def _url(self, target: Target, path: str) -> str:
        return (target.upstream or self._services.upstream) + path

    async def _answer(self, context: RequestContext, prepared: _Prepared) -> None:
        capture, record = self._services.capture, prepared.record
        if capture is None or record is None:
            await self._relay.relay(context, prepared.request)
            return
        try:
            await self._relay.relay(context, prepared.request, [record])
        finally:
            capture.add_record(record)

    def _log_end(self, context: RequestContext) -> None:
        """Count and log a request that ended: names and numbers, never its content."""
        seconds = time.monotonic() - context.started
        key = context.key_name
        self._metrics.requests.labels(context.alias, context.model, key, str(context.status)).inc()
        self._metrics.seconds.labels(context.alias).observe(seconds)
        _log.info(
            "%s key=%s alias=%s model=%s status=%d ms=%.0f",
            *(context.request_id, key or "-", context.alias or "-", context.model or "-", context.status),
            seconds * 1000,
        )


def _may_use(key: Key | None, alias: str) -> bool:
    return key is None or key.models is None or alias in key.models
