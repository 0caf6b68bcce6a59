"""A gateway on a real port, in front of a fake vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from distillery.core.child_processes import free_port
from distillery.core.contracts.routing import Adapter, RoutingConfig, Target
from distillery_gateway.auth.api_keys import ApiKeyStore
from distillery_gateway.auth.rate_limits import Limits, RateLimiter
from distillery_gateway.capture.capture_folder import CaptureLimits
from distillery_gateway.capture.redaction import Redactor
from distillery_gateway.capture.writer import Capture
from distillery_gateway.metrics import Metrics
from distillery_gateway.proxy.app import Gateway, Services
from distillery_gateway.routing.table import Routes
from tests.fakes.vllm import FakeVllm

LONG = [b"data: x\n\n"] * 1000
"""Chunks of an answer that nobody waits for."""


@dataclass
class Served:
    """A gateway under test."""

    url: str
    vllm: FakeVllm
    routes: Routes
    metrics: Metrics
    session: aiohttp.ClientSession
    capture: Capture | None = None

    async def post(self, body: Any, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, Any]:
        """Status and JSON of a request."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        kind: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.session.post(self.url + path, headers=sent, **kind) as answer:
            return answer.status, await answer.json(content_type=None)

    async def leave(self, body: Any, *, chunks: Sequence[bytes] = LONG, **headers: str) -> None:
        """Ask for a long stream, and go away at its first words."""
        self.vllm.chunks, self.vllm.pause = list(chunks), 0.05
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.url}/v1/chat/completions"
        async with self.session.post(url, json={**body, "stream": True}, headers=sent) as answer:
            await answer.content.readany()
            answer.close()


Serve = Callable[..., Awaitable[Served]]


def routing_config(generation: int = 1, **aliases: tuple[Target, ...]) -> RoutingConfig:
    names = {t.model for targets in aliases.values() for t in targets if t.model != "base"}
    adapters = tuple(Adapter(name, "r1-train-distilled", "0") for name in sorted(names))
    return RoutingConfig(generation, adapters, {alias.replace("_", "-"): targets for alias, targets in aliases.items()})


@pytest.fixture
async def vllm() -> AsyncGenerator[FakeVllm]:
    async with FakeVllm() as server:
        yield server


@pytest.fixture
async def serve(vllm: FakeVllm) -> AsyncGenerator[Serve]:
    """Starts a gateway with the given limits and keys, which serves the base model as ``bot``."""
    ended: list[Callable[[], Awaitable[Any]]] = []

    async def start(
        *,
        keys: Path | None = None,
        denied: frozenset[str] = frozenset(),
        capture: Path | None = None,
        capture_limits: CaptureLimits | None = None,
        per_key_limits: bool = True,
        **limits: Any,
    ) -> Served:
        upstream, client = aiohttp.ClientSession(), aiohttp.ClientSession()
        routes, metrics = Routes(), Metrics()
        routes.try_apply(routing_config(bot=(Target("base"),)), {"base"})
        kept = Capture(capture, Redactor([r"ORD-\d+"]), metrics, limits=capture_limits) if capture else None
        services = Services(
            client=upstream,
            upstream=vllm.url,
            routes=routes,
            api_keys=ApiKeyStore(keys),
            rate_limiter=RateLimiter(Limits(**limits), per_key=per_key_limits),
            metrics=metrics,
            denied=denied,
            capture=kept,
        )
        writing = asyncio.create_task(kept.run()) if kept else None
        port = free_port()
        config = uvicorn.Config(
            Gateway(services), host="127.0.0.1", port=port, lifespan="off", log_config=None, ws="none"
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # uvicorn tells by this attribute alone

        async def end() -> None:
            await client.close()
            server.should_exit = True
            await running
            if writing:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
            await upstream.close()

        ended.append(end)
        return Served(f"http://127.0.0.1:{port}", vllm, routes, metrics, client, kept)

    yield start
    for end in ended:
        await end()
