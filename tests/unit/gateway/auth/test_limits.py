"""Limits bind everybody: those who name no number, those who send many prompts, and those who send bombs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from distillery.core.api.spec.serving import GatewayLimits
from tests.fakes.vllm import FakeVllm
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.process import PATIENCE, gateway

MESSAGES = [{"role": "user", "content": "go"}]
CHAT: dict[str, Any] = {"model": "bot", "messages": MESSAGES}
COMPLETION: dict[str, Any] = {"model": "bot", "prompt": "go"}
PATH = "/v1/completions"


@pytest.mark.parametrize("given", [{}, {"max_tokens": None}, {"max_completion_tokens": None}])
async def test_a_chat_that_names_no_number_gets_the_limit(serve: Serve, given: dict[str, Any]):
    served = await serve(max_tokens=512)
    assert (await served.post({**CHAT, **given}))[0] == 200
    assert served.vllm.requests[0]["max_completion_tokens"] == 512


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_chat_that_names_a_number_keeps_it(serve: Serve, name: str):
    served = await serve(max_tokens=512)
    assert (await served.post({**CHAT, name: 7}))[0] == 200
    assert served.vllm.requests == [{**CHAT, name: 7, "model": "base"}]


async def test_the_limit_is_not_above_what_vllm_takes(serve: Serve):
    served = await serve()
    served.routes.context = 2048
    assert (await served.post(CHAT))[0] == 200
    assert served.vllm.requests[0]["max_completion_tokens"] == 2048


async def test_a_gateway_learns_from_vllm_what_it_takes(vllm: FakeVllm, tmp_path: Path):
    vllm.context = 2048
    async with gateway(vllm, tmp_path) as process:
        assert (await process.ask())[0] == 200
    assert vllm.requests[0]["max_completion_tokens"] == 2048


@pytest.mark.parametrize(("limit", "sent"), [(512, 16), (8, 8)])
async def test_a_completion_that_names_no_number_gets_openais_default(serve: Serve, limit: int, sent: int):
    served = await serve(max_tokens=limit)
    assert (await served.post(COMPLETION, PATH))[0] == 200
    assert served.vllm.requests[0]["max_tokens"] == sent


@pytest.mark.parametrize(
    ("prompt", "n", "status"),
    [
        ("go", 8, 200),
        ("go", 9, 400),
        (["go"] * 8, None, 200),
        (["go"] * 9, None, 400),
        (["go"] * 4, 2, 200),
        (["go"] * 4, 3, 400),
        ([1] * 900, None, 200),
        ([[1, 2]] * 9, None, 400),
        ([[1, 2]] * 8, 1, 200),
        ([], None, 400),
        (["go", 1], None, 400),
        ([["go"]], None, 400),
        ({"go": 1}, None, 400),
        (None, None, 400),
        (7, None, 400),
    ],
)
async def test_prompts_are_counted_with_choices(serve: Serve, prompt: Any, n: int | None, status: int):
    served = await serve(max_choices=8)
    got, answer = await served.post({"model": "bot", "prompt": prompt, "n": n}, PATH)
    assert got == status, answer
    assert len(served.vllm.requests) == (status == 200)


@pytest.mark.parametrize("messages", ["go", {"role": "user"}, [[]], [MESSAGES], ["go"], None, 7])
async def test_messages_are_a_list_of_objects(serve: Serve, messages: Any):
    served = await serve()
    status, answer = await served.post({"model": "bot", "messages": messages})
    assert (status, answer["error"]["param"]) == (400, "messages")
    assert served.vllm.requests == []


@pytest.mark.parametrize("piece", [b"[]", b"{}", b"1", b'{"a":[{}]}'])
async def test_a_body_of_too_many_parts_is_refused_before_it_is_read(serve: Serve, piece: bytes):
    served = await serve()
    body = b'{"model": "bot", "messages": [' + b",".join([piece] * (1_900_000 // (len(piece) + 1))) + b"]}"
    status, answer = await served.post(body)
    assert (status, answer["error"]["code"]) == (413, "body_too_complex")


@pytest.mark.parametrize("number", [b"1e999", b"-1e999"])
async def test_a_number_that_json_does_not_have_is_not_sent(serve: Serve, number: bytes):
    served = await serve()
    status, answer = await served.post(b'{"model": "bot", "messages": [], "temperature": ' + number + b"}")
    assert (status, answer["error"]["code"]) == (400, "invalid_json")
    assert served.vllm.requests == []


async def test_requests_under_way_hold_no_more_than_their_bodies(vllm: FakeVllm, tmp_path: Path):
    release = asyncio.Event()

    async def hang(_: dict[str, Any]) -> web.StreamResponse:
        await release.wait()
        return web.json_response({"choices": []})

    vllm.answer = hang
    messages = [{"role": "a"}] * 95_000  # 16 bytes and a comma each, and some 200 as an object
    size = len(json.dumps(messages))
    async with gateway(vllm, tmp_path) as process:
        before = process.megabytes()
        asked = [asyncio.create_task(process.ask(messages=messages)) for _ in range(20)]
        async with asyncio.timeout(PATIENCE):
            while len(vllm.requests) < 20:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        held = process.megabytes() - before
        release.set()
        assert {status for status, _ in await asyncio.gather(*asked)} == {200}
    assert held < 20 * 4 * size / 1e6


async def test_bodies_under_way_have_a_budget(serve: Serve):
    release = asyncio.Event()

    async def hang(_: dict[str, Any]) -> web.StreamResponse:
        await release.wait()
        return web.json_response({"choices": []})

    served = await serve(bytes_in_flight=40_000, max_body_bytes=20_000)
    served.vllm.answer = hang
    large = {"model": "bot", "messages": [{"role": "user", "content": "x" * 15_000}]}
    first = asyncio.create_task(served.post(large))
    async with asyncio.timeout(PATIENCE):
        while not served.vllm.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    status, answer = await served.post(large)
    assert (status, answer["error"]["code"]) == (429, "bytes_limit"), "a key has half of the budget"
    release.set()
    assert (await first)[0] == 200
    assert (await served.post(large))[0] == 200


async def test_two_pods_accept_twice_what_one_accepts_of_a_key(serve: Serve):
    pods = [await serve(requests_per_minute=3) for _ in range(2)]
    answered = [(await pod.post(CHAT))[0] for pod in pods for _ in range(5)]
    assert answered == [200, 200, 200, 429, 429] * 2


async def test_a_canarys_gateway_leaves_the_limits_of_keys_to_those_before_it(serve: Serve):
    """Copies of the requests of several pods are more than one pod may accept of a key, and none is a failure."""
    canary = await serve(requests_per_minute=1, max_concurrent_requests=1, per_key_limits=False)
    answered = await asyncio.gather(*(canary.post(CHAT) for _ in range(5)))
    assert [status for status, _ in answered] == [200] * 5


@pytest.mark.parametrize("name", ["requests_per_minute", "max_concurrent_requests"])
def test_limits_of_a_key_are_said_to_hold_in_each_pod(name: str):
    described = " ".join((GatewayLimits.model_fields[name].description or "").split())
    assert "each pod" in described
    assert "n pods" in described
