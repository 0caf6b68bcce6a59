"""The client and servers that answer well, badly, or not at all."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiohttp import web

from distillery.rollouts.client import ChatClient, PromptTooLong, RequestRefused, ServerUnavailable
from tests.unit.fake_server import FakeServer, completion

MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]


def client(server: FakeServer, **settings: Any) -> ChatClient:
    defaults: dict[str, Any] = {"timeout": 0.5, "tries": 3, "backoff": 0.01}
    return ChatClient(server.base_url, "m", **defaults | settings)


async def ask(server: FakeServer, **settings: Any):
    async with client(server, **settings) as made:
        return await made.complete(MESSAGES, temperature=0.5, max_tokens=7, stop=["\n"])


async def test_a_reply_comes_with_its_cost():
    async def answer(body: dict[str, Any]) -> web.Response:
        return completion("go", prompt_tokens=20, completion_tokens=2, cached=16)

    async with FakeServer(answer) as server:
        reply = await ask(server)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == ("go", 20, 2, 16)
    assert server.requests == [
        {"model": "m", "messages": MESSAGES, "temperature": 0.5, "max_tokens": 7, "stop": ["\n"]}
    ]


async def test_what_the_server_does_not_report_is_unknown_and_not_zero():
    async def answer(body: dict[str, Any]) -> web.Response:
        return completion("go")

    async with FakeServer(answer) as server:
        assert (await ask(server)).cached_tokens is None


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_a_passing_error_is_tried_again(status: int):
    async def answer(body: dict[str, Any]) -> web.Response:
        return completion("go") if len(server.requests) > 2 else web.Response(status=status, text="busy")

    async with FakeServer(answer) as server:
        assert (await ask(server)).text == "go"


async def test_a_server_that_keeps_failing_is_given_up_with_its_words():
    async def answer(body: dict[str, Any]) -> web.Response:
        return web.Response(status=500, text="out of memory")

    async with FakeServer(answer) as server:
        with pytest.raises(ServerUnavailable, match=r"answered 500: out of memory \(3 tries\)"):
            await ask(server)
    assert len(server.requests) == 3


async def test_a_server_that_hangs_is_given_up():
    async def answer(body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(1)  # twenty times what the client waits
        return completion("too late")

    async with FakeServer(answer) as server:
        with pytest.raises(ServerUnavailable, match="did not answer within"):
            await ask(server, timeout=0.05)


@pytest.mark.parametrize(
    "garbage",
    [
        "<html>hello</html>",
        "{}",
        '{"choices": []}',
        '{"choices": [{"message": {"content": 3}}], "usage": {}}',
        "[1]",
        "null",
    ],
)
async def test_garbage_is_tried_again_and_then_shown(garbage: str):
    async def answer(body: dict[str, Any]) -> web.Response:
        return web.Response(text=garbage)

    async with FakeServer(answer) as server:
        with pytest.raises(ServerUnavailable, match="answered with no"):
            await ask(server)
    assert len(server.requests) == 3


async def test_a_server_that_hangs_up_in_the_middle_is_tried_again():
    async def answer(body: dict[str, Any]) -> web.StreamResponse:
        if len(server.requests) > 1:
            return completion("go")
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(server.current)
        assert server.current.transport is not None
        server.current.transport.abort()
        return response

    async with FakeServer(answer) as server:
        assert (await ask(server)).text == "go"


async def test_nobody_there_is_said_so():
    async with FakeServer(lambda body: asyncio.sleep(0)) as server:  # type: ignore[arg-type]
        pass
    with pytest.raises(ServerUnavailable, match="can't be reached"):
        await ask(server)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_refusal_is_final(status: int):
    async def answer(body: dict[str, Any]) -> web.Response:
        return web.json_response({"error": {"message": "no such model"}}, status=status)

    async with FakeServer(answer) as server:
        with pytest.raises(RequestRefused, match=f"answered {status}: .*no such model"):
            await ask(server)
    assert len(server.requests) == 1


async def test_a_prompt_that_is_too_long_is_told_apart():
    async def answer(body: dict[str, Any]) -> web.Response:
        message = "This model's maximum context length is 1024 tokens. However, your request has 1030 input tokens."
        return web.json_response({"error": {"message": message}}, status=400)

    async with FakeServer(answer) as server:
        with pytest.raises(PromptTooLong):
            await ask(server)


async def test_the_key_is_sent_and_never_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)

    async def answer(body: dict[str, Any]) -> web.Response:
        return web.Response(status=500, text="boom")

    async with FakeServer(answer) as server:
        with pytest.raises(ServerUnavailable) as caught:
            await ask(server, api_key="sesame-4711")
    assert server.headers[0]["Authorization"] == "Bearer sesame-4711"
    assert "sesame-4711" not in caplog.text + str(caught.value)


async def test_the_context_length_is_read_where_the_server_tells():
    async with FakeServer(lambda body: asyncio.sleep(0)) as server, client(server) as made:  # type: ignore[arg-type]
        assert await made.context_length() == 1000


async def test_a_model_that_is_not_served_is_found_before_anything_is_played():
    models = {"data": [{"id": "other"}]}
    async with FakeServer(lambda body: asyncio.sleep(0), models=models) as server, client(server) as made:  # type: ignore[arg-type]
        with pytest.raises(RequestRefused, match="does not serve m; it serves other"):
            await made.context_length()
