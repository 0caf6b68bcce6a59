"""Start-up of the gateway: the public port, the port for probes and the operator, and the tasks in the background."""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import uvicorn

from distillery.core import probes
from distillery_gateway.auth.api_keys import ApiKeyStore
from distillery_gateway.auth.rate_limits import RateLimiter
from distillery_gateway.capture.redaction import Redactor
from distillery_gateway.capture.writer import Capture
from distillery_gateway.connections import Gate
from distillery_gateway.metrics import Metrics
from distillery_gateway.proxy.app import Gateway, Services
from distillery_gateway.proxy.upstream import Progress
from distillery_gateway.refresh import ModelPoller, refresh_api_keys, refresh_routing_file
from distillery_gateway.routing.file import RoutingFile
from distillery_gateway.routing.table import Routes
from distillery_gateway.settings import Settings


def main() -> None:
    """Serve until the process is stopped; running requests are finished first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        settings = Settings.from_environment()
    except ValueError as error:
        sys.exit(str(error))
    # each client takes a descriptor, and so does its request to the server behind
    _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))
    import uvloop

    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=600)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)  # vLLM hangs up after 5 s
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as client:
        metrics = Metrics()
        progress = Progress(client, settings.upstream, patience=settings.hang_seconds)
        capture = Capture(settings.capture, Redactor(settings.redact), metrics) if settings.capture else None
        services = Services(
            client=client,
            upstream=settings.upstream,
            routes=Routes(),
            api_keys=ApiKeyStore(settings.api_keys),
            rate_limiter=RateLimiter(settings.limits, per_key=settings.per_key_limits),
            metrics=metrics,
            denied=settings.denied,
            capture=capture,
            progress=progress,
        )
        async with _serve_probes(settings, services.routes, metrics, progress):
            tasks = _start_tasks(settings, services, progress)
            try:
                await _serve_clients(settings, services)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def _serve_clients(settings: Settings, services: Services) -> None:
    metrics = services.metrics
    gate = Gate(settings.limits, lambda reason: metrics.closed.labels(reason).inc())
    config = uvicorn.Config(
        Gateway(services), host="", port=settings.port, lifespan="off", log_config=None, access_log=False,
        timeout_keep_alive=75, timeout_graceful_shutdown=110, server_header=False,
        loop="none", http=gate.protocol(), ws="none",
    )  # fmt: skip
    await uvicorn.Server(config).serve()


def _serve_probes(
    settings: Settings, routes: Routes, metrics: Metrics, progress: Progress
) -> AbstractAsyncContextManager[None]:
    def upstream_problem() -> str:
        return "vLLM makes no progress with its requests" if progress.hangs else ""

    def state() -> dict[str, Any]:
        return {
            "generation": routes.generation,
            "modelsInUse": sorted(routes.in_use),
            "traffic": routes.traffic.snapshot(),
        }

    return probes.serve(
        settings.admin_port,
        checks={
            "/healthz": probes.is_alive,
            "/readyz": lambda: routes.not_ready_reason or upstream_problem(),
            "/upstream": upstream_problem,
        },
        documents={"/state": state},
        registry=metrics.registry,
    )


def _start_tasks(settings: Settings, services: Services, progress: Progress) -> list[asyncio.Task[None]]:
    file = RoutingFile(settings.routing_file)
    poller = ModelPoller(services.client, settings.upstream, file, services.routes, services.metrics)
    tasks = [refresh_api_keys(services.api_keys), refresh_routing_file(file), poller.run(), progress.watch()]
    if services.capture:
        tasks.append(services.capture.run())
    return [asyncio.create_task(task) for task in tasks]


if __name__ == "__main__":
    main()
