"""The client and servers that answer well, badly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from distillery.llm import client as client_module
from distillery.llm.client import (
    ChatClient,
    ParameterRefused,
    PromptRefused,
    PromptTooLong,
    RequestRefused,
    RequestSettings,
    ServerUnavailable,
)
from distillery.llm.throttle import Throttle, parse_retry_after
from tests.fakes.chat_server import FakeServer, completion, refusal

MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]


def new_client(server: FakeServer, **settings: Any) -> ChatClient:
    defaults: dict[str, Any] = {"timeout": 0.5, "patience": 0.2, "backoff": 0.01}
    return ChatClient(server.base_url, "m", RequestSettings(**defaults | settings))


async def ask(server: FakeServer, **settings: Any):
    async with new_client(server, **settings) as client:
        return await client.complete(MESSAGES, temperature=0.5, max_tokens=7, stop=["\n"])


async def test_complete_returns_the_reply_and_its_cost():
    async def answer(body: dict[str, Any]) -> web.Response:
        return completion("go", prompt_tokens=20, completion_tokens=2, cached=16)

    async with FakeServer(answer) as server:
        reply = await ask(server)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == ("go", 20, 2, 16)
    assert server.requests == [
        {"model": "m", "messages": MESSAGES, "temperature": 0.5, "max_tokens": 7, "stop": ["\n"]}
    ]


async def test_cached_tokens_are_none_when_the_server_reports_none():
    async def answer(body: dict[str, Any]) -> web.Response:
        return completion("go")

    async with FakeServer(answer) as server:
        assert (await ask(server)).cached_tokens is None


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_complete_tries_again_when_an_error_may_pass(status: int):
    async def answer(body: dict[str, Any]) -> web.Response:
        return completion("go") if len(server.requests) > 2 else web.Response(status=status, text="busy")

    async with FakeServer(answer) as server:
        assert (await ask(server)).text == "go"


async def test_complete_gives_up_when_the_server_keeps_failing():
    async def answer(body: dict[str, Any]) -> web.Response:
        return web.Response(status=500, text="out of memory")

    async with FakeServer(answer) as server:
        with pytest.raises(ServerUnavailable, match=r"answered 500: out of memory \(no answer for 0\.2 s\)"):
            await ask(server)
    assert len(server.requests) > 2


async def test_complete_gives_up_when_the_server_hangs():
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
async def test_complete_quotes_the_answer_when_it_is_garbage(garbage: str):
    async def answer(body: dict[str, Any]) -> web.Response:
        return web.Response(text=garbage)

    async with FakeServer(answer) as server:
        with pytest.raises(ServerUnavailable, match="answered with no"):
            await ask(server, patience=1)
    assert len(server.requests) > 2


async def test_complete_tries_again_when_the_server_hangs_up():
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


async def test_complete_names_the_server_when_it_is_away():
    async with FakeServer(lambda body: asyncio.sleep(0)) as server:  # type: ignore[arg-type]
        pass
    with pytest.raises(ServerUnavailable, match="can't be reached"):
        await ask(server)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_complete_does_not_try_again_when_every_request_is_refused(status: int):
    async def answer(body: dict[str, Any]) -> web.Response:
        return refusal(status, "no such model")

    async with FakeServer(answer) as server:
        with pytest.raises(RequestRefused, match=f"answered {status}: .*no such model"):
            await ask(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_client_continues_when_one_prompt_is_refused(status: int):
    async def answer(body: dict[str, Any]) -> web.Response:
        return refusal(status, "flagged", code="content_filter") if len(server.requests) == 1 else completion("go")

    async with FakeServer(answer) as server, new_client(server) as client:
        with pytest.raises(PromptRefused, match="flagged"):
            await client.complete(MESSAGES, temperature=0, max_tokens=7)
        assert (await client.complete(MESSAGES, temperature=0, max_tokens=7)).text == "go"
    assert len(server.requests) == 2


@pytest.mark.parametrize(("answered_between", "error"), [(False, RequestRefused), (True, PromptRefused)])
async def test_refusals_in_a_row_count_as_refusal_of_every_request(answered_between: bool, error: type[Exception]):
    async def answer(body: dict[str, Any]) -> web.Response:
        return completion("go") if answered_between and len(server.requests) == 15 else refusal(400, "no")

    async with FakeServer(answer) as server, new_client(server) as client:
        for _ in range(client_module._MAX_REFUSALS - 1):
            with contextlib.suppress(PromptRefused):
                await client.complete(MESSAGES, temperature=0, max_tokens=7)
        with pytest.raises(error, match="answered 400"):
            await client.complete(MESSAGES, temperature=0, max_tokens=7)


async def test_request_that_always_fails_is_refused_when_others_pass():
    async def answer(body: dict[str, Any]) -> web.Response:
        return web.Response(status=500, text="engine error") if body["messages"] == [] else completion("go")

    async with FakeServer(answer) as server, new_client(server, patience=60) as client:
        bad = asyncio.create_task(client.complete([], temperature=0, max_tokens=7))
        while not bad.done():
            await client.complete(MESSAGES, temperature=0, max_tokens=7)
        with pytest.raises(PromptRefused, match=r"engine error.* while others were answered"):
            await bad


async def test_complete_leaves_a_parameter_out_when_it_is_null():
    async def answer(body: dict[str, Any]) -> web.Response:
        return completion("go")

    parameters = {"max_tokens": None, "max_completion_tokens": 900, "temperature": None, "reasoning_effort": "low"}
    async with FakeServer(answer) as server:
        await ask(server, parameters=parameters)
    (request,) = server.requests
    assert request == {
        "model": "m",
        "messages": MESSAGES,
        "stop": ["\n"],
        "max_completion_tokens": 900,
        "reasoning_effort": "low",
    }


async def test_refusal_names_the_field_when_a_parameter_is_unsupported():
    async def answer(body: dict[str, Any]) -> web.Response:
        return refusal(400, "Use 'max_completion_tokens'", code="unsupported_parameter", param="max_tokens")

    async with FakeServer(answer) as server:
        with pytest.raises(ParameterRefused) as caught:
            await ask(server, field="spec.models.teacher.endpoint")
    assert str(caught.value).endswith(
        "; spec.models.teacher.endpoint.parameters: write {max_tokens: null, max_completion_tokens: 7}"
    )


async def test_client_waits_when_the_server_restarts(caplog: pytest.LogCaptureFixture):
    async def answer(body: dict[str, Any]) -> web.Response:
        return completion("go")

    async with FakeServer(answer) as server, new_client(server, patience=60) as client:
        assert (await client.complete(MESSAGES, temperature=0, max_tokens=7)).text == "go"
        await server.__aexit__(None, None, None)
        waiting = [asyncio.create_task(client.complete(MESSAGES, temperature=0, max_tokens=7)) for _ in range(8)]
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in waiting)
        assert client.waiting
        async with FakeServer(answer, port=server.port):
            assert [reply.text for reply in await asyncio.gather(*waiting)] == ["go"] * 8
        assert not client.waiting
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1, "a wait is logged once"
    assert "can't be reached" in warnings[0]


@pytest.mark.parametrize("status", [429, 503])
async def test_client_holds_all_requests_when_the_server_sends_retry_after(status: int):
    times: list[float] = []

    async def answer(body: dict[str, Any]) -> web.Response:
        times.append(time.monotonic())
        return web.Response(status=status, headers={"Retry-After": "1"}) if len(times) == 1 else completion("go")

    async with FakeServer(answer) as server, new_client(server, timeout=10, patience=60) as client:
        first = asyncio.create_task(client.complete(MESSAGES, temperature=0, max_tokens=7))
        async with asyncio.timeout(5):
            while not client.waiting:  # noqa: ASYNC110 - nobody is notified
                await asyncio.sleep(0.01)
        others = [client.complete(MESSAGES, temperature=0, max_tokens=7) for _ in range(4)]
        await asyncio.gather(first, *others)
    assert len(times) == 6
    assert min(times[1:]) - times[0] >= 0.95, "none is sent before the server wants it"


async def test_client_sends_less_when_a_busy_server_names_no_time():
    began = time.monotonic()
    refused = 0

    async def answer(body: dict[str, Any]) -> web.Response:
        nonlocal refused
        if time.monotonic() - began > 1:
            return completion("go")
        refused += 1
        return web.Response(status=429)

    async with FakeServer(answer) as server, new_client(server, timeout=10, patience=60, backoff=0.05) as client:
        await asyncio.gather(*(client.complete(MESSAGES, temperature=0, max_tokens=7) for _ in range(12)))
    assert refused <= 12 + 6 + 3 + 5, "half as many each time that the gate opens"


def test_patience_lasts_when_other_requests_are_answered():
    now = 0.0
    throttle = Throttle("server", patience=100, clock=lambda: now)
    throttle.record_failure("away", busy=False, retry_after=None)
    now = 99.0
    throttle.record_failure("away", busy=False, retry_after=None)
    throttle.record_answer()
    now = 150.0
    throttle.record_failure("away", busy=False, retry_after=None)
    now = 250.0
    with pytest.raises(ServerUnavailable, match=r"away \(no answer for 100 s\)"):
        throttle.record_failure("away", busy=False, retry_after=None)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("Sun, 29 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 29 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("", None),
        (None, None),
    ],
)
def test_parse_retry_after_reads_seconds_and_dates(header: str | None, seconds: float | None):
    assert parse_retry_after(header, now=datetime(2026, 11, 29, 12, tzinfo=UTC)) == seconds


async def test_complete_raises_prompt_too_long_when_the_context_is_full():
    async def answer(body: dict[str, Any]) -> web.Response:
        message = "This model's maximum context length is 1024 tokens. However, your request has 1030 input tokens."
        return web.json_response({"error": {"message": message}}, status=400)

    async with FakeServer(answer) as server:
        with pytest.raises(PromptTooLong):
            await ask(server)


async def test_client_sends_the_key_and_never_logs_it(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)

    async def answer(body: dict[str, Any]) -> web.Response:
        return web.Response(status=500, text="boom")

    async with FakeServer(answer) as server:
        with pytest.raises(ServerUnavailable) as caught:
            await ask(server, api_key="sesame-4711")
    assert server.headers[0]["Authorization"] == "Bearer sesame-4711"
    assert "sesame-4711" not in caplog.text + str(caught.value)


async def test_context_length_is_returned_when_the_server_lists_it():
    async with FakeServer(lambda body: asyncio.sleep(0)) as server, new_client(server) as client:  # type: ignore[arg-type]
        assert await client.context_length() == 1000


@pytest.mark.parametrize(
    "models", [{"data": [{"id": "other", "max_model_len": 9}]}, {"data": None}, {"data": ["m"]}, []]
)
async def test_context_length_is_none_when_the_model_is_not_listed(models: Any):
    async def answer(body: dict[str, Any]) -> web.Response:
        return completion("go")

    async with FakeServer(answer, models=models) as server, new_client(server) as client:
        assert await client.context_length() is None
        assert (await client.complete(MESSAGES, temperature=0, max_tokens=7)).text == "go"


async def test_complete_returns_the_finish_reason():
    async def answer(body: dict[str, Any]) -> web.Response:
        return completion("go", finish_reason="length")

    async with FakeServer(answer) as server:
        assert (await ask(server)).finish_reason == "length"


async def test_complete_fails_when_a_success_holds_an_error():
    async def answer(body: dict[str, Any]) -> web.Response:
        return web.json_response({"error": {"code": 401, "message": "no credits"}})

    async with FakeServer(answer) as server:
        with pytest.raises(RequestRefused, match=r"answered 401: .*no credits"):
            await ask(server)
