"""A server whose engine hangs while its front end answers is noticed; the fake vLLM hangs in the same way."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from distillery.core.child_processes import free_port
from distillery_operator.manifests import servers
from tests.fakes.vllm import FakeVllm
from tests.unit.gateway.process import Process, gateway

FAST = {"DISTILLERY_HANG_SECONDS": "2"}


def until(event: asyncio.Event) -> Callable[[dict[str, Any]], Awaitable[web.StreamResponse]]:
    async def answer(_: dict[str, Any]) -> web.StreamResponse:
        await event.wait()
        return web.json_response({"choices": []})

    return answer


async def upstream(process: Process) -> int:
    """Return the exit code of the liveness probe of vLLM's container."""
    command = [sys.executable, *servers.hang_check(process.admin)[1:]]
    return await (await asyncio.create_subprocess_exec(*command)).wait()


async def test_pod_is_not_ready_when_its_server_hangs(vllm: FakeVllm, tmp_path: Path):
    release = asyncio.Event()
    async with gateway(vllm, tmp_path, variables=FAST) as process:
        assert await upstream(process) == 0
        vllm.answer = until(release)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.ask(), 6)
        await process.until_ready(ready=False)
        assert await upstream(process) == 1
        await asyncio.sleep(3)
        assert not await process.ready(), "nobody asks any more, and it hangs still"
        release.set()
        await process.until_ready()
        assert await upstream(process) == 0
        assert (await process.ask())[0] == 200


async def test_liveness_probe_passes_when_no_gateway_answers():
    command = [sys.executable, *servers.hang_check(free_port())[1:]]
    assert await (await asyncio.create_subprocess_exec(*command)).wait() == 0


async def test_server_does_not_hang_when_it_counts_tokens(vllm: FakeVllm, tmp_path: Path):
    tokens = itertools.count()
    vllm.metrics = lambda: f'vllm:generation_tokens_total{{engine="0"}} {next(tokens)}.0\n'
    vllm.answer = until(asyncio.Event())
    async with gateway(vllm, tmp_path, variables=FAST) as process:
        asked = asyncio.create_task(process.ask())
        for _ in range(16):
            await asyncio.sleep(0.5)
            assert await process.ready()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def test_server_does_not_hang_when_it_answers_other_requests(vllm: FakeVllm, tmp_path: Path):
    never = asyncio.Event()

    async def answer(body: dict[str, Any]) -> web.StreamResponse:
        if "prompt" not in body:
            await never.wait()
        return web.json_response({"choices": []})

    vllm.answer = answer
    async with gateway(vllm, tmp_path, variables=FAST) as process:
        asked = asyncio.create_task(process.ask())
        for _ in range(12):
            await asyncio.sleep(0.5)
            assert await process.ready()
        assert any("prompt" in request for request in vllm.requests), "it was asked for a token"
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


async def test_idle_server_gets_no_request_of_the_watcher(vllm: FakeVllm, tmp_path: Path):
    async with gateway(vllm, tmp_path, variables=FAST) as process:
        assert (await process.ask())[0] == 200
        await asyncio.sleep(4)
        assert await process.ready()
        assert len(vllm.requests) == 1


async def test_time_to_first_byte_excludes_the_headers(vllm: FakeVllm, tmp_path: Path):
    async def slowly(_: dict[str, Any]) -> web.StreamResponse:
        return Slow()

    vllm.answer = slowly
    async with gateway(vllm, tmp_path) as process:
        assert (await process.ask())[0] == 200
        name = 'distillery_gateway_time_to_first_byte_seconds_sum{alias="bot"}'
        (line,) = (line for line in (await process.metrics()).splitlines() if line.startswith(name))
        assert float(line.split()[1]) >= 1


class Slow(web.StreamResponse):
    """Sends its headers at once, and its body a second later."""

    async def write_eof(self, data: bytes = b"") -> None:
        assert self._payload_writer
        self._payload_writer.send_headers()
        await asyncio.sleep(1)
        await super().write_eof(b"{}")


@pytest.mark.parametrize(("status", "given", "expected"), [(429, "7", "7"), (503, "9", "9"), (500, None, "1")])
async def test_retry_after_of_the_server_is_passed_on(
    vllm: FakeVllm, tmp_path: Path, status: int, given: str | None, expected: str
):
    async def refuse(_: dict[str, Any]) -> web.StreamResponse:
        headers = {"Retry-After": given} if given else {}
        return web.json_response({"error": {"message": "no"}}, status=status, headers=headers)

    vllm.answer = refuse
    async with gateway(vllm, tmp_path, keyed=False) as process, aiohttp.ClientSession() as session:
        body = {"model": "bot", "messages": []}
        async with session.post(f"http://127.0.0.1:{process.port}/v1/chat/completions", json=body) as answer:
            assert answer.headers["Retry-After"] == expected
