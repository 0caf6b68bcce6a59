"""A fake OpenAI-compatible server that answers as a test tells it to."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

Answer = Callable[[dict[str, Any]], Awaitable[web.StreamResponse]]


def completion(
    text: str,
    *,
    prompt_tokens: int = 10,
    completion_tokens: int = 3,
    cached: int | None = None,
    finish_reason: str | None = None,
) -> web.Response:
    """A well-formed chat completion."""
    usage: dict[str, Any] = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
    if finish_reason:
        choice["finish_reason"] = finish_reason
    return web.json_response({"choices": [choice], "usage": usage})


def refusal(status: int, message: str, *, code: str | None = None, param: str | None = None) -> web.Response:
    """An error as OpenAI's API has it."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return web.json_response({"error": error}, status=status)


class FakeServer:
    """Serves ``answer`` at /v1/chat/completions, on a port of the loopback interface (0: a free one), while entered."""

    def __init__(self, answer: Answer, *, models: Any = None, port: int = 0) -> None:
        self._answer = answer
        self.port = port
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
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
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
