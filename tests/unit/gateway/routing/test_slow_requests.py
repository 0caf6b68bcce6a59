"""Traffic counts slow and failed requests, without retries and formats that the model can't write."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import openai
import pytest
from aiohttp import web

from distillery.core.contracts.routing import RoutingConfig, Target
from distillery_gateway.routing import attempts
from tests.unit.gateway.conftest import Serve, routing_config
from tests.unit.gateway.routing.test_traffic_stats import BODY, FAILED, NOTHING, answers, hang, until

SLOW = {**NOTHING, "requests": 1, "slow": 1}


class Hanging(web.StreamResponse):
    """Sends its headers, and nothing after them."""

    async def write_eof(self, data: bytes = b"") -> None:
        assert self._payload_writer
        self._payload_writer.send_headers()
        await asyncio.sleep(60)


async def send_headers(_: dict[str, Any]) -> web.StreamResponse:
    return Hanging()


def patient(seconds: float) -> RoutingConfig:
    """A table under which a request is slow after so many seconds."""
    return replace(routing_config(2, bot=(Target("base"),)), max_first_token_seconds=seconds)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("stays", "counted"), [(0.3, NOTHING), (1.3, SLOW)])
async def test_request_is_slow_when_a_patient_client_leaves_without_a_token(
    serve: Serve, stream: bool, stays: float, counted: dict[str, int]
):
    served = await serve()
    assert served.routes.try_apply(patient(30), {"base"})
    served.vllm.answer = send_headers if stream else hang
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(served.post({**BODY, "stream": stream}), stays)
    await until(lambda: served.metrics.cancelled._value.get())
    assert served.routes.traffic.snapshot()["base"] == counted


@pytest.mark.parametrize("stream", [True, False])
async def test_request_counts_as_slow_while_its_client_waits(serve: Serve, stream: bool):
    served = await serve()
    assert served.routes.try_apply(patient(0.2), {"base"})
    served.vllm.answer = send_headers if stream else hang
    waiting = asyncio.create_task(served.post({**BODY, "stream": stream}))
    await until(lambda: served.routes.traffic.snapshot()["base"]["requests"])
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: served.metrics.cancelled._value.get())
    assert served.routes.traffic.snapshot()["base"] == SLOW


@pytest.mark.parametrize(("status", "errors"), [(200, 0), (500, 1)])
async def test_late_response_is_slow_and_counts_once(serve: Serve, status: int, errors: int):
    async def answer(_: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return web.json_response({"model": "base"}, status=status)

    served = await serve()
    assert served.routes.try_apply(patient(0.2), {"base"})
    served.vllm.answer = answer
    await served.post(BODY)
    assert served.routes.traffic.snapshot()["base"] == {**SLOW, "errors": errors}


async def test_retries_of_the_openai_client_count_as_one_request(serve: Serve):
    served = await serve()
    served.vllm.answer = answers(503)
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=2) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="bot", messages=[{"role": "user", "content": "x"}])
    assert len(served.vllm.requests) == 3
    assert served.routes.traffic.snapshot()["base"] == FAILED


async def test_request_is_a_retry_twice_when_it_follows_its_failure(serve: Serve):
    served = await serve()
    served.vllm.answer = answers(500)
    found = []
    for _ in range(4):
        await served.post(BODY)
        found.append(served.routes.traffic.snapshot()["base"]["errors"])
    assert found == [1, 1, 1, 2]
    await served.post(BODY, X_Session_ID="another")
    await served.post({**BODY, "temperature": 1})
    assert served.routes.traffic.snapshot()["base"] == {**NOTHING, "requests": 4, "errors": 4}


async def test_request_is_not_a_retry_after_a_response_or_much_later(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    served = await serve()
    for _ in range(3):
        await served.post(BODY)
    assert served.routes.traffic.snapshot()["base"]["requests"] == 3
    served.vllm.answer = answers(500)
    await served.post(BODY)
    monkeypatch.setattr(attempts, "_RETRY_SECONDS", 0.0)
    await served.post(BODY)
    assert served.routes.traffic.snapshot()["base"] == {**NOTHING, "requests": 5, "errors": 2}


FORMATS = [
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
    {"response_format": {"type": "json_object"}},
    {"tool_choice": "required", "tools": []},
    {"tool_choice": {"type": "function", "function": {"name": "x"}}, "tools": []},
]


@pytest.mark.parametrize("demanded", FORMATS)
async def test_failed_format_is_neither_an_error_nor_retried(serve: Serve, demanded: dict[str, Any]):
    """vLLM ends a request whose grammar refuses all tokens that the model has, with a 500."""
    served = await serve()
    served.vllm.answer = answers(500)
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=2) as client:
        with pytest.raises(openai.UnprocessableEntityError, match="format") as raised:
            await client.post("/chat/completions", body={**BODY, **demanded}, cast_to=object)
    assert raised.value.code == "format_not_generated"
    assert len(served.vllm.requests) == 1
    assert served.routes.traffic.snapshot()["base"] == NOTHING


@pytest.mark.parametrize(("status", "more"), [(503, FORMATS[0]), (500, {"response_format": {"type": "text"}})])
async def test_other_failures_of_formatted_requests_are_errors(serve: Serve, status: int, more: dict[str, Any]):
    served = await serve()
    served.vllm.answer = answers(status)
    assert (await served.post({**BODY, **more}))[0] == 503
    assert served.routes.traffic.snapshot()["base"] == FAILED


async def test_failed_format_behind_the_canary_gateway_is_not_an_error(serve: Serve):
    canary, served = await serve(), await serve()
    target = Target("bot", upstream=canary.url, student="0123456789ab")
    assert served.routes.try_apply(routing_config(2, bot=(target,)), {"base"})
    served.vllm.answer = answers(500)
    assert (await served.post({**BODY, **FORMATS[0]}))[0] == 422
    assert served.routes.traffic.snapshot()["0123456789ab"] == NOTHING


@pytest.mark.parametrize(
    ("events", "more", "counted"),
    [
        ([b'data: {"error": {"message": "Internal server error", "code": 500}}\n\n'], {}, FAILED),
        ([b'data: {"er', b'ror": {"message": "Internal server error", "code": 500}}\n\n'], {}, FAILED),
        ([b"d", b"a", b"ta", b': {"error', b'": 1}\n\n'], {}, FAILED),
        ([b'data: {"error": {"message": "Internal server error", "code": 500}}\n\n'], FORMATS[0], NOTHING),
        ([b'data: {"choices": [{"delta": {"content": "data: {\\"error\\": 1}"}}]}\n\n'], {}, {**FAILED, "errors": 0}),
    ],
)
async def test_traffic_counts_an_error_when_a_stream_reports_one(
    serve: Serve, events: list[bytes], more: dict[str, Any], counted: dict[str, int]
):
    served = await serve()
    served.vllm.chunks = [b"data: {}\n\n", *events, b"data: [DONE]\n\n"]
    served.vllm.pause = 0.02
    async with served.session.post(
        f"{served.url}/v1/chat/completions", json={**BODY, **more, "stream": True}
    ) as answer:
        assert (answer.status, await answer.read()) == (200, b"".join(served.vllm.chunks))
    await until(lambda: served.metrics.requests.labels("bot", "base", "", "200")._value.get())
    assert served.routes.traffic.snapshot()["base"] == counted
