"""The client of the API server, against a server of this process that behaves as one at its worst."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from distillery_operator.cache import Cache
from distillery_operator.kube.client import PAGE, ApiError, KubeClient
from distillery_operator.pods.progress import ProgressWatcher
from tests.fakes.cluster import run_object

PODS = 2 * PAGE + 1


class Server:
    """Lists pods in pages; drops every connection over which a status comes."""

    def __init__(self) -> None:
        self.queries: list[dict[str, str]] = []
        self.dropped, self.dropped_thrice = 0, asyncio.Event()

    async def list(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        first, most = int(request.query.get("continue", "0")), int(request.query["limit"])
        items = [{"metadata": {"name": f"p{number}"}} for number in range(first, min(PODS, first + most))]
        following = {"continue": str(first + most)} if first + most < PODS else {}
        return web.json_response({"items": items, "metadata": following})

    async def discover(self, request: web.Request) -> web.Response:
        group = request.match_info["group"]
        if group in ("missing", "secret"):
            return web.json_response({"reason": group}, status=404 if group == "missing" else 403)
        known = ["distillationruns", "distillationruns/status"] if group == "there" else []
        return web.json_response({"resources": [{"name": name} for name in known]})

    async def drop(self, request: web.Request) -> web.Response:
        self.dropped += 1
        if self.dropped == 3:
            self.dropped_thrice.set()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


@pytest.fixture
async def served() -> AsyncGenerator[tuple[KubeClient, Server]]:
    server = Server()
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/team/pods", server.list)
    app.router.add_get("/apis/{group}", server.discover)
    app.router.add_patch("/{path:.*}", server.drop)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    kube = KubeClient()
    kube._client = ApiClient(Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}"))
    async with kube._client:
        yield kube, server
    await runner.cleanup()


async def test_list_reads_every_page(served: tuple[KubeClient, Server]):
    kube, server = served
    found = await kube.list("v1", "Pod", "team", labelSelector="a=b")
    assert [pod["metadata"]["name"] for pod in found] == [f"p{number}" for number in range(PODS)]
    assert [query.get("continue") for query in server.queries] == [None, str(PAGE), str(2 * PAGE)]
    assert {query["labelSelector"] for query in server.queries} == {"a=b"}


@pytest.mark.parametrize(
    ("path", "expected"), [("there", True), ("empty", False), ("missing", False), ("secret", True)]
)
async def test_serves_is_true_when_the_kind_exists(served: tuple[KubeClient, Server], path: str, expected: bool):
    kube, _ = served
    assert await kube.serves(path, "distillationruns") == expected


async def test_lost_connection_raises_an_api_error(served: tuple[KubeClient, Server]):
    kube, _ = served
    with pytest.raises(ApiError, match="does not answer") as lost:
        await kube.apply_status({**run_object(), "status": {}})
    assert (lost.value.status, lost.value.refuses) == (0, False)


async def test_progress_continues_when_a_connection_is_lost(
    served: tuple[KubeClient, Server], monkeypatch: pytest.MonkeyPatch
):
    kube, server = served
    monkeypatch.setattr("distillery_operator.pods.progress.SECONDS", 0.05)
    cache = Cache()
    cache.keep_run({**run_object(), "status": {"phase": "Running"}})
    watcher = ProgressWatcher(kube, cache)
    watcher._written["team", "test"] = {"text": "1/2"}  # which has to go
    watching = asyncio.create_task(watcher.run())
    async with asyncio.timeout(60):
        await server.dropped_thrice.wait()
    assert not watching.done()
    watching.cancel()
