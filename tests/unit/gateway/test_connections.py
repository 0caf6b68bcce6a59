"""Connections without a key take limited memory, on real sockets of a real process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from tests.fakes.vllm import FakeVllm
from tests.unit.gateway import flood
from tests.unit.gateway.process import PATIENCE, Process, gateway

REQUEST = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n"


async def send(process: Process, data: bytes, *, address: str = "127.0.0.2") -> bytes:
    """All that the gateway answers until it closes, or resets what it does not read."""
    loop, answer = asyncio.get_running_loop(), b""
    with socket.create_connection(("127.0.0.1", process.port), source_address=(address, 0)) as client:
        client.setblocking(False)
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(client, data)
            with contextlib.suppress(ConnectionError):
                while part := await loop.sock_recv(client, 65536):
                    answer += part
    return answer


async def under_flood(process: Process, sockets: int, seconds: float) -> tuple[dict[str, int], list[float], float]:
    """What the flood saw, seconds of a keyed client's requests meanwhile, and the most megabytes above idle."""
    before, most, times = process.megabytes(), 0.0, list[float]()
    command = [sys.executable, "-m", "tests.unit.gateway.flood", *map(str, (process.port, sockets, seconds))]
    flooding = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    report = asyncio.create_task(flooding.communicate())
    while not report.done():
        # every second request on a connection of its own
        status, took = await process.ask(headers={"Connection": "close"} if len(times) % 2 else {})
        assert status == 200
        times.append(took)
        most = max(most, process.megabytes() - before)
        await asyncio.sleep(0.01)
    return json.loads((await report)[0]), times, most


async def test_flood_without_a_key_costs_bounded_memory(vllm: FakeVllm, tmp_path: Path):
    async with gateway(vllm, tmp_path, headSeconds=2) as process:
        await process.ask()
        seen, times, megabytes = await under_flood(process, 200, 6)
        assert megabytes < 64
        assert len(times) > 20
        for kind in flood.KINDS:
            assert seen[f"{kind} opened"] >= 50
            assert seen[f"{kind} closed"] >= 50, f"the gateway closed no {kind}"
        assert (await process.ask())[0] == 200


@pytest.mark.slow
async def test_keyed_client_keeps_its_p99_during_a_flood_of_2000_sockets(vllm: FakeVllm, tmp_path: Path):
    async with gateway(vllm, tmp_path) as process:
        idle = []
        for _ in range(1000):
            idle.append((await process.ask())[1])
            await asyncio.sleep(0.01)
        seen, times, megabytes = await under_flood(process, 2000, 60)
        print(f"{megabytes:.0f} MB; p99 {np.quantile(idle, 0.99):.4f} -> {np.quantile(times, 0.99):.4f} s; {seen}")
        assert megabytes < 64
        assert np.quantile(times, 0.99) <= 3 * np.quantile(idle, 0.99)


@pytest.mark.parametrize(
    "data",
    [
        REQUEST + b"a: b\r\n" * 101 + b"\r\n",
        REQUEST + b"a: " + b"b" * 64_000,
        b"GET /" + b"x" * 64_000,
        b"\r\n" * 64_000,
        b"GET /?" + b"x" * 64_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_head_is_refused_with_431_when_it_is_too_large(vllm: FakeVllm, tmp_path: Path, data: bytes):
    async with gateway(vllm, tmp_path) as process:
        answer = await send(process, data)
        assert answer.startswith(b"HTTP/1.1 431 "), answer
        assert 'connections_closed_total{reason="head_too_large"} 1.0' in await process.metrics()


async def test_trailers_of_a_body_are_limited_as_headers_are(vllm: FakeVllm, tmp_path: Path):
    head = b"POST /v1/outcomes HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    async with gateway(vllm, tmp_path) as process:
        for trailers in (b"a: b\r\n" * 101, b"a: " + b"b" * 64_000):
            await send(process, head + trailers)
        assert 'connections_closed_total{reason="head_too_large"} 2.0' in await process.metrics()


@pytest.mark.parametrize(("data", "answered"), [(b"", b""), (REQUEST, b"HTTP/1.1 408 "), (b"\r\n", b"")])
async def test_connection_is_closed_when_its_head_is_too_slow(
    vllm: FakeVllm, tmp_path: Path, data: bytes, answered: bytes
):
    async with gateway(vllm, tmp_path, headSeconds=1) as process:
        assert (await send(process, data))[:13] == answered


async def test_connection_is_closed_when_its_key_was_rejected(vllm: FakeVllm, tmp_path: Path):
    async with gateway(vllm, tmp_path, headSeconds=1) as process:
        answer = await send(process, REQUEST + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 401 ")


async def test_requests_in_one_packet_are_limited(vllm: FakeVllm, tmp_path: Path):
    async with gateway(vllm, tmp_path) as process:
        before = process.megabytes()
        await send(process, b"GET / HTTP/1.1\r\n\r\n" * 100_000)
        assert process.megabytes() - before < 10
        assert 'connections_closed_total{reason="pipelined"} 1.0' in await process.metrics()


async def test_oldest_waiting_connection_is_closed_when_there_are_too_many(vllm: FakeVllm, tmp_path: Path):
    async with gateway(vllm, tmp_path, waitingConnections=5) as process:
        first = asyncio.create_task(send(process, REQUEST))
        await asyncio.sleep(0.3)
        others = [asyncio.create_task(send(process, REQUEST)) for _ in range(5)]
        async with asyncio.timeout(5):
            assert await first == b""
        assert (await process.ask())[0] == 200
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def test_connections_are_limited_per_address(vllm: FakeVllm, tmp_path: Path):
    async with gateway(vllm, tmp_path, maxConnectionsPerAddress=3) as process:
        held = [await asyncio.open_connection("127.0.0.1", process.port, local_addr=("127.0.0.2", 0)) for _ in range(3)]
        assert (await send(process, REQUEST)).startswith(b"HTTP/1.1 503 ")
        assert (await process.ask())[0] == 200
        held[0][1].close()
        async with asyncio.timeout(PATIENCE):
            while (await send(process, REQUEST + b"Connection: close\r\n\r\n"))[:13] != b"HTTP/1.1 401 ":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for _, writer in held:
            writer.transport.abort()


async def test_connection_stays_open_between_requests_with_a_key(vllm: FakeVllm, tmp_path: Path):
    async with gateway(vllm, tmp_path, headSeconds=1) as process:
        request = REQUEST + b"Authorization: Bearer dk-client\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
        for _ in range(2):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            (length,) = (int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"content-length"))
            await reader.readexactly(length)
            await asyncio.sleep(2)
        writer.write(REQUEST)  # and half of a third
        async with asyncio.timeout(PATIENCE):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_long_response_outlives_the_timeout_of_a_head(vllm: FakeVllm, tmp_path: Path):
    vllm.pause = 1.0
    async with gateway(vllm, tmp_path, headSeconds=1) as process:
        assert (await process.ask(stream=True))[0] == 200


async def test_connection_is_closed_when_its_client_stops_reading(vllm: FakeVllm, tmp_path: Path):
    vllm.chunks = [b"x" * 1_000_000] * 60
    async with gateway(vllm, tmp_path, sendSeconds=1) as process:
        body = json.dumps({"model": "bot", "messages": [], "stream": True}).encode()
        head = REQUEST.replace(b"GET /v1/models", b"POST /v1/chat/completions")
        head += b"Authorization: Bearer dk-client\r\nContent-Length: %d\r\n\r\n" % len(body)
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port, limit=1000)
        writer.write(head + body)
        await reader.readline()
        async with asyncio.timeout(PATIENCE):
            while not vllm.cancelled:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert 'connections_closed_total{reason="send_too_slow"} 1.0' in await process.metrics()
        writer.transport.abort()


async def test_log_has_no_traceback_when_a_stream_breaks(vllm: FakeVllm, tmp_path: Path):
    vllm.breaks = True
    async with gateway(vllm, tmp_path) as process:
        with pytest.raises(aiohttp.ClientError):
            await process.ask(stream=True)
        assert (await process.ask())[0] == 200
    log = (tmp_path / "log").read_text()
    assert "upstream failed" in log
    assert "Traceback" not in log
