"""The port for probes, Prometheus, the operator and each other: of the gateway, and of the syncer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4


async def serve(
    port: int,
    *,
    waits_for: Callable[[], str],
    state: Callable[[], Mapping[str, Any]],
    registry: CollectorRegistry | None = None,
    upstream: Callable[[], str] | None = None,
) -> web.AppRunner:
    """Serve /healthz, /readyz, /state and, with a registry, /metrics.

    Args:
        port: where.
        waits_for: why requests are not to be sent here; empty once they are.
        state: what /state tells.
        registry: of metrics.
        upstream: what is wrong with the server behind, at /upstream for its own probe; empty where nothing is.
    """

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        reason = waits_for()
        return web.Response(status=503, text=f"{reason}\n") if reason else web.Response(text="ok\n")

    async def show_upstream(_: web.Request) -> web.Response:
        assert upstream is not None
        reason = upstream()
        return web.Response(status=503, text=f"{reason}\n") if reason else web.Response(text="ok\n")

    async def show_state(_: web.Request) -> web.Response:
        return web.json_response(state())

    async def show_metrics(_: web.Request) -> web.Response:
        assert registry is not None
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    app = web.Application()
    app.router.add_get("/healthz", healthy)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/state", show_state)
    if registry is not None:
        app.router.add_get("/metrics", show_metrics)
    if upstream is not None:
        app.router.add_get("/upstream", show_upstream)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
