"""The tasks that keep a running gateway up to date: its keys, its routing document, and the models that vLLM holds."""

from __future__ import annotations

import asyncio
import logging
import math
import time

import aiohttp

from distillery.core.contracts.routing import InvalidRoutingConfig
from distillery_gateway.auth.api_keys import ApiKeyStore
from distillery_gateway.metrics import Metrics
from distillery_gateway.proxy.upstream import fetch_models_and_context
from distillery_gateway.routing.file import RoutingFile
from distillery_gateway.routing.table import Routes

_log = logging.getLogger(__name__)

REFRESH_SECONDS = 0.5
_POLL_SECONDS = 2.0
_SILENCE_SECONDS = 20.0


class LogOnChange:
    """A warning that is logged once, and again after it changed or was gone."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._last = ""

    def report(self, problem: str) -> None:
        """Log a problem that is new; an empty one means that all is well."""
        if problem and problem != self._last:
            self._logger.warning("%s", problem)
        self._last = problem


async def refresh_api_keys(api_keys: ApiKeyStore) -> None:
    """Read the keys again and again, until cancelled."""
    problems = LogOnChange(_log)
    while True:
        problem = ""
        try:
            if await asyncio.to_thread(api_keys.refresh):
                _log.info("the keys changed")
        except OSError as error:
            problem = f"the keys can't be read: {error}"
        problems.report(problem)
        await asyncio.sleep(REFRESH_SECONDS)


async def refresh_routing_file(file: RoutingFile) -> None:
    """Read the routing document again and again, until cancelled."""
    problems = LogOnChange(_log)
    while True:
        problem = ""
        try:
            file.refresh()
        except (InvalidRoutingConfig, OSError, ValueError) as error:
            problem = str(error)
        problems.report(problem)
        await asyncio.sleep(REFRESH_SECONDS)


class ModelPoller:
    """The poller of vLLM's models, which applies a new routing document once vLLM holds its models.

    Args:
        session: to vLLM.
        upstream: URL of vLLM.
        file: with the routing document to apply.
        routes: that it is applied to.
        metrics: shows the generation.
    """

    def __init__(
        self, session: aiohttp.ClientSession, upstream: str, file: RoutingFile, routes: Routes, metrics: Metrics
    ) -> None:
        self._session = session
        self._upstream = upstream
        self._file = file
        self._routes = routes
        self._metrics = metrics
        self._polled_at = self._answered_at = -math.inf

    async def run(self) -> None:
        """Poll until cancelled, more often while a document waits for its models."""
        problems = LogOnChange(_log)
        while True:
            problems.report(await self.poll())
            await asyncio.sleep(REFRESH_SECONDS)

    async def poll(self) -> str:
        """Poll if it is time to. Return the problem, or an empty text."""
        config, now = self._file.current, time.monotonic()
        is_new = config.generation != self._routes.generation
        if not is_new and now - self._polled_at < _POLL_SECONDS:
            return ""
        self._polled_at = now
        try:
            models, self._routes.context = await fetch_models_and_context(self._session, self._upstream)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # a busy server may take its time to answer; one that refuses the connection is gone
            if isinstance(error, aiohttp.ClientConnectorError) or now - self._answered_at > _SILENCE_SECONDS:
                self._routes.set_loaded_models(())
            return f"vLLM does not report its models: {error or type(error).__name__}"
        self._answered_at = time.monotonic()
        self._routes.set_loaded_models(models)
        if is_new and self._routes.try_apply(config, models):
            self._metrics.generation.set(self._routes.generation)
        return ""
