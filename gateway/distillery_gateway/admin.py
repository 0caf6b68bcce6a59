"""The port for probes, Prometheus, the operator and each other: of the gateway, and of the syncer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

Runner = web.AppRunner


async def serve(
    port: int,
    *,
    not_ready_reason: Callable[[], str],
    state: Callable[[], Mapping[str, Any]],
    registry: CollectorRegistry | None = None,
    upstream_problem: Callable[[], str] | None = None,
) -> Runner:
    """Serve /healthz, /readyz, /state and, with a registry, /metrics.

    Args:
        port: to listen on.
        not_ready_reason: why requests must not be sent here; empty once they may.
        state: the document at /state.
        registry: of metrics.
        upstream_problem: what is wrong with the server behind, at /upstream for its own probe; empty if nothing is.
    """

    async def show_health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def show_readiness(_: web.Request) -> web.Response:
        return _probe(not_ready_reason())

    async def show_upstream(_: web.Request) -> web.Response:
        assert upstream_problem is not None
        return _probe(upstream_problem())

    async def show_state(_: web.Request) -> web.Response:
        return web.json_response(state())

    async def show_metrics(_: web.Request) -> web.Response:
        assert registry is not None
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    app = web.Application()
    app.router.add_get("/healthz", show_health)
    app.router.add_get("/readyz", show_readiness)
    app.router.add_get("/state", show_state)
    if registry is not None:
        app.router.add_get("/metrics", show_metrics)
    if upstream_problem is not None:
        app.router.add_get("/upstream", show_upstream)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner


def _probe(reason: str) -> web.Response:
    return web.Response(status=503, text=f"{reason}\n") if reason else web.Response(text="ok\n")
