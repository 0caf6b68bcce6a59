"""The copies of requests for a canary whose responses nobody sees."""

from __future__ import annotations

import asyncio
import logging

import aiohttp

from distillery_gateway.errors import ApiError
from distillery_gateway.proxy.request_context import RequestContext
from distillery_gateway.proxy.upstream_request import UpstreamRequest, open_response
from distillery_gateway.routing.table import Routes

_log = logging.getLogger("distillery_gateway.requests")

_MAX_COPIES = 8  # in progress


class Mirror:
    """The sender of copies, for which no client waits.

    Args:
        client: to upstreams.
        routes: count the traffic.
    """

    def __init__(self, client: aiohttp.ClientSession, routes: Routes) -> None:
        self._client = client
        self._routes = routes
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def has_capacity(self) -> bool:
        """True if another copy may be sent."""
        return len(self._tasks) < _MAX_COPIES

    def send(self, request: UpstreamRequest, context: RequestContext) -> None:
        """Send a copy and read its response to the end."""
        traffic = self._routes.traffic.request(request.target, request.attempt, formatted=request.formatted)

        async def copy() -> None:
            try:
                with traffic as counter, self._routes.running(request.target.model):
                    async with open_response(self._client, request, context, routes=self._routes) as response:
                        async for data in response.content.iter_any():
                            counter.chunk(data)
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                _log.info("a shadow failed: %s", error.status if isinstance(error, ApiError) else type(error).__name__)

        task = asyncio.create_task(copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
