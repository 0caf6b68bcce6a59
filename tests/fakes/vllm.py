"""A fake vLLM: streams what a test says, and loads adapters as the real one does. The real one is in tests/e2e."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web


class FakeVllm:
    """On a free port of the loopback interface while entered.

    Attributes:
        base: the model that it starts with.
        adapters: name -> path.
        requests: bodies of completions, in order.
        cancelled: completions whose client went away.
        breaks: streams end without their last chunks.
        context: tokens that it takes, as it says.
    """

    def __init__(self, base: str = "base") -> None:
        self.base = base
        self.adapters: dict[str, str] = {}
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.cancelled = 0
        self.chunks = [b"data: one\n\n", b"data: \xc3", b"\xa9two\n\n", b"data: [DONE]\n\n"]
        self.pause = 0.0
        self.breaks = False
        self.context: int | None = None
        self.metrics: Callable[[], str] = str
        self.answer: Callable[[dict[str, Any]], Awaitable[web.StreamResponse]] | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=100_000_000)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._show_metrics)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/v1/load_lora_adapter", self._load)
        app.router.add_post("/v1/unload_lora_adapter", self._unload)
        app.router.add_post("/collective_rpc", self._models)
        self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _models(self, _: web.Request) -> web.Response:
        base = {"id": self.base, "parent": None, "max_model_len": self.context}
        data = [base, *({"id": name, "parent": self.base} for name in self.adapters)]
        return web.json_response({"object": "list", "data": data})

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=self.metrics())

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.requests.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if body["model"] not in (self.base, *self.adapters):
            return web.json_response({"error": {"message": "no such model"}}, status=404)
        if self.answer:
            return await self.answer(body)
        if not body.get("stream"):
            return web.json_response({"model": body["model"], "choices": [{"message": {"content": "hi"}}]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for chunk in self.chunks:
                await response.write(chunk)
                await asyncio.sleep(self.pause)
                if self.breaks and request.transport:
                    request.transport.abort()
        except (asyncio.CancelledError, ConnectionError):
            self.cancelled += 1
            raise
        return response

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["lora_name"] in self.adapters:
            return web.json_response({"error": {"message": "already loaded"}}, status=400)
        self.adapters[body["lora_name"]] = body["lora_path"]
        return web.Response(text="ok")

    async def _unload(self, request: web.Request) -> web.Response:
        del self.adapters[(await request.json())["lora_name"]]
        return web.Response(text="ok")
