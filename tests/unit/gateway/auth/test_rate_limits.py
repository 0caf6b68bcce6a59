"""Keys are limited in concurrent requests, in requests a minute and in bytes, each pod on its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from distillery.core.api.spec.serving import GatewayLimits
from distillery_gateway.auth.api_keys import Key
from distillery_gateway.auth.rate_limits import Limits, RateLimiter
from distillery_gateway.errors import ApiError
from tests.fakes.vllm import FakeVllm
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.process import PATIENCE, gateway

CHAT: dict[str, Any] = {"model": "bot", "messages": [{"role": "user", "content": "go"}]}


def test_rate_limit_refills_with_time():
    now = [0.0]
    limiter = RateLimiter(Limits(), clock=lambda: now[0])
    key = Key("k", "", requests_per_minute=60)

    def ask() -> bool:
        try:
            with limiter.admit(key):
                return True
        except ApiError as refusal:
            refused.append(refusal)
            return False

    refused: list[ApiError] = []
    assert [ask() for _ in range(61)].count(True) == 60
    now[0] += 2.0
    assert [ask() for _ in range(4)] == [True, True, False, False]
    assert {refusal.status for refusal in refused} == {429}
    assert all(int(refusal.headers["Retry-After"]) >= 1 for refusal in refused)


def test_rate_limiter_counts_each_key_alone():
    limiter = RateLimiter(Limits(max_concurrent_requests=1))
    with (
        limiter.admit(Key("a", "")),
        limiter.admit(Key("b", "")),
        pytest.raises(ApiError),
        limiter.admit(Key("a", "")),
    ):
        pass
    with limiter.admit(Key("a", "")):
        pass


async def test_running_requests_hold_no_more_than_their_bodies(vllm: FakeVllm, tmp_path: Path):
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


async def test_bodies_of_running_requests_have_a_budget(serve: Serve):
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


async def test_rate_limit_holds_in_each_pod(serve: Serve):
    pods = [await serve(requests_per_minute=3) for _ in range(2)]
    answered = [(await pod.post(CHAT))[0] for pod in pods for _ in range(5)]
    assert answered == [200, 200, 200, 429, 429] * 2


async def test_canary_gateway_leaves_key_limits_to_the_gateways_before_it(serve: Serve):
    """Copies of the requests of several pods are more than one pod may accept of a key, and none is a failure."""
    canary = await serve(requests_per_minute=1, max_concurrent_requests=1, per_key_limits=False)
    answered = await asyncio.gather(*(canary.post(CHAT) for _ in range(5)))
    assert [status for status, _ in answered] == [200] * 5


@pytest.mark.parametrize("name", ["requests_per_minute", "max_concurrent_requests"])
def test_documentation_of_key_limits_mentions_each_pod(name: str):
    described = " ".join((GatewayLimits.model_fields[name].description or "").split())
    assert "each pod" in described
    assert "n pods" in described
