"""A flood of sockets without a key, as a process of its own: it takes no time from the process that measures.

    python -m tests.unit.gateway.flood PORT SOCKETS SECONDS

Four kinds of sockets come from addresses other than 127.0.0.1. Each comes back some time after it was closed.
Prints as JSON how many sockets of each kind were opened, how many of them the gateway closed, and bytes sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections import Counter

KINDS = ("headers", "url", "half", "silence")
_ADDRESSES = 50
_CHUNK = 64 * 1024
_START_SECONDS = 2.0
_PAUSE_SECONDS = (0.5, 5.0)


async def _play(kind: str, number: int, port: int, seen: Counter[str]) -> None:
    """One socket, over and over, until cancelled."""
    address = f"127.0.0.{2 + number % _ADDRESSES}"
    await asyncio.sleep(random.uniform(0, _START_SECONDS))
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            seen[f"{kind} opened"] += 1
            try:
                if kind in ("headers", "half"):
                    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n")
                elif kind == "url":
                    writer.write(b"GET /")
                if kind in ("half", "silence"):
                    await reader.read()
                else:
                    chunk = b"x" * _CHUNK if kind == "url" else b"a: b\r\n" * (_CHUNK // 6)
                    while True:
                        writer.write(chunk)
                        await writer.drain()
                        seen[f"{kind} bytes"] += len(chunk)
                        await asyncio.sleep(0.01)
            finally:
                writer.transport.abort()
                seen[f"{kind} closed"] += 1
        await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))


async def _flood(port: int, sockets: int, seconds: float) -> Counter[str]:
    seen: Counter[str] = Counter()
    tasks = [asyncio.create_task(_play(KINDS[n % len(KINDS)], n, port, seen)) for n in range(sockets)]
    await asyncio.sleep(seconds)
    found = seen.copy()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_flood(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))))
