"""The passage of a response to its client, byte by byte; vLLM stops as soon as the client leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import nullcontext

import aiohttp

from distillery_gateway.errors import ClientGone
from distillery_gateway.metrics import FirstByteTimer, Metrics
from distillery_gateway.observers import ResponseObserver
from distillery_gateway.proxy.request_context import RequestContext
from distillery_gateway.proxy.upstream import Progress
from distillery_gateway.proxy.upstream_errors import upstream_failed
from distillery_gateway.proxy.upstream_request import UpstreamRequest, open_response
from distillery_gateway.routing.table import Routes

_log = logging.getLogger("distillery_gateway.requests")

_PASSED_HEADERS = ("content-type", "content-length")


class Relay:
    """The relay of requests to vLLM and of its responses to clients.

    Args:
        client: to upstreams.
        routes: count the traffic.
        metrics: measure the time to the first byte.
        progress: of the vLLM of this pod; None if nobody watches it.
    """

    def __init__(
        self, client: aiohttp.ClientSession, routes: Routes, metrics: Metrics, progress: Progress | None = None
    ) -> None:
        self._client = client
        self._routes = routes
        self._metrics = metrics
        self._progress = progress

    async def relay(
        self, context: RequestContext, request: UpstreamRequest, observers: Sequence[ResponseObserver] = ()
    ) -> None:
        """Send a request, and pass its response to the client as it comes.

        Args:
            context: of the client's request.
            request: to send.
            observers: notified of the response, after those of this relay.

        Raises:
            ApiError: the response is an error; the client has got nothing yet.
            ClientGone: the client left, and the request was cancelled.
        """
        target = request.target
        progress = self._progress if not target.upstream else None
        traffic = self._routes.traffic.request(
            target, request.attempt, session=request.session, formatted=request.formatted
        )
        with traffic as counter, self._routes.running(target.model), progress.request() if progress else nullcontext():
            timer = FirstByteTimer(self._metrics, context.alias, context.started)
            all_observers = (timer, *((progress,) if progress else ()), counter, *observers)
            await self._pass_or_cancel(context, request, all_observers)

    async def _pass_or_cancel(
        self, context: RequestContext, request: UpstreamRequest, observers: Sequence[ResponseObserver]
    ) -> None:
        work = asyncio.ensure_future(self._pass(context, request, observers))
        gone = asyncio.ensure_future(context.wait_for_disconnect())
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

    async def _pass(
        self, context: RequestContext, request: UpstreamRequest, observers: Sequence[ResponseObserver]
    ) -> None:
        try:
            async with open_response(
                self._client, request, context, routes=self._routes, observers=observers
            ) as response:
                passed = [(name, response.headers[name]) for name in _PASSED_HEADERS if name in response.headers]
                await context.begin(response.status, passed)
                async for data in response.content.iter_any():
                    for observer in observers:
                        observer.chunk(data)
                    await context.send({"type": "http.response.body", "body": data, "more_body": True})
                await context.send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.warning("%s: upstream failed: %s", context.request_id, type(error).__name__)
            if context.status:
                raise  # the response has begun: it ends here, broken, and the client notices that
            raise upstream_failed({"Retry-After": "1"}) from error
