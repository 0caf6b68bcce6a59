"""A fake OpenAI-compatible server that answers as a test tells it to."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

Answer = Callable[[dict[str, Any]], Awaitable[web.StreamResponse]]


def completion(
    text: str, *, prompt_tokens: int = 10, completion_tokens: int = 3, cached: int | None = None
) -> web.Response:
    """A well-formed chat completion."""
    usage: dict[str, Any] = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    return web.json_response({"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage})


class FakeServer:
    """Serves ``answer`` at /v1/chat/completions, on a free port of the loopback interface, while entered."""

    def __init__(self, answer: Answer, *, models: Any = None) -> None:
        self._answer = answer
        self._models = models if models is not None else {"data": [{"id": "m", "max_model_len": 1000}]}
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.current: web.Request

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._list)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self.current = request
        body = json.loads(await request.read())
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        return await self._answer(body)

    async def _list(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(self._models)
