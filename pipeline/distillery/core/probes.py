"""The port of a process for probes, Prometheus and other pods, served in the event loop of the process.

    async with probes.serve(8002, checks={"/readyz": find_problem}, documents={"/state": state}, registry=registry):
        ...

A path of a check answers 200 or, with the problem as text, 503. A path of a document answers JSON. ``/metrics`` answers
Prometheus' text format.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

Check = Callable[[], str]
"""A check: returns the problem, which is empty if there is none."""

Document = Callable[[], Mapping[str, Any]]
"""A document: returns what is served as JSON."""

_Handler = Callable[[web.Request], Awaitable[web.Response]]


def is_alive() -> str:
    """Return no problem: a process that answers is alive."""
    return ""


@asynccontextmanager
async def serve(
    port: int,
    *,
    checks: Mapping[str, Check] | None = None,
    documents: Mapping[str, Document] | None = None,
    registry: CollectorRegistry | None = None,
) -> AsyncGenerator[None]:
    """Serve on all interfaces while the context is entered.

    Args:
        port: to listen on.
        checks: by path.
        documents: by path.
        registry: of metrics; without one there is no /metrics.

    Raises:
        OSError: the port is taken.
    """
    app = web.Application()
    for path, check in (checks or {}).items():
        app.router.add_get(path, _answer_check(check))
    for path, document in (documents or {}).items():
        app.router.add_get(path, _answer_document(document))
    if registry is not None:
        app.router.add_get("/metrics", _answer_metrics(registry))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()


def _answer_check(check: Check) -> _Handler:
    async def handle(_: web.Request) -> web.Response:
        problem = check()
        return web.Response(status=503, text=f"{problem}\n") if problem else web.Response(text="ok\n")

    return handle


def _answer_document(document: Document) -> _Handler:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response(document())

    return handle


def _answer_metrics(registry: CollectorRegistry) -> _Handler:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return handle
