"""A request as it is sent on to vLLM, or to another gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from distillery.core.contracts.routing import Target
from distillery_gateway import sessions
from distillery_gateway.observers import ResponseObserver
from distillery_gateway.proxy.request_context import RequestContext
from distillery_gateway.proxy.upstream_errors import ModelNames, translate_error
from distillery_gateway.proxy.validation import dump
from distillery_gateway.routing.attempts import Attempt
from distillery_gateway.routing.table import Routes


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request as it is sent on.

    Attributes:
        target: the model that answers.
        url: where it is sent.
        body: that is sent.
        headers: that are sent.
        attempt: by which a retry is recognized.
        formatted: the request demands a format, which the model may be unable to write.
        session: the digest of its session; None if it has none.
    """

    target: Target
    url: str
    body: bytes
    headers: Mapping[str, str]
    attempt: Attempt
    formatted: bool
    session: bytes | None = None


def body_for(target: Target, body: dict[str, Any]) -> bytes:
    """Return the body for a target. Another gateway knows the alias, not the models behind this one."""
    return dump(body if target.upstream else {**body, "model": target.model})


def headers_for(target: Target, context: RequestContext) -> dict[str, str]:
    """Return the headers for a target. Another gateway checks the key, and captures the session, itself."""
    headers = {"Content-Type": "application/json", "X-Request-ID": context.request_id}
    if target.upstream:
        passed = ("authorization", sessions.HEADER)
        headers |= {name: context.headers[name] for name in passed if name in context.headers}
    return headers


@asynccontextmanager
async def open_response(
    client: aiohttp.ClientSession,
    request: UpstreamRequest,
    context: RequestContext,
    *,
    routes: Routes,
    observers: Iterable[ResponseObserver] = (),
) -> AsyncGenerator[aiohttp.ClientResponse]:
    """Send a request, and yield its response. Raises :class:`ApiError` if that is an error.

    Args:
        client: to upstreams.
        request: to send.
        context: of the client's request.
        routes: hold the names of models that an error may mention.
        observers: notified of an error.
    """
    async with client.post(request.url, data=request.body, headers=request.headers) as response:
        if response.status >= 400:
            for observer in observers:
                observer.error()
            body = await response.read()
            names = ModelNames(context.alias, {context.model, *routes.loaded_models})
            raise translate_error(response.status, body, response.headers, formatted=request.formatted, names=names)
        yield response
