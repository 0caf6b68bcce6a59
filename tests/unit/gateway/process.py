"""A gateway as a process, in front of a fake vLLM; with a key if requests need one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from distillery.core.child_processes import free_port
from distillery_gateway.auth.api_keys import digest_of
from tests.fakes.vllm import FakeVllm

KEY = "dk-client"
BODY: dict[str, Any] = {"model": "bot", "messages": [{"role": "user", "content": "go"}]}
PATIENCE = 60.0


async def is_ready(session: aiohttp.ClientSession, admin: int) -> bool:
    """What a readiness probe of the gateway with this admin port finds."""
    try:
        async with session.get(f"http://127.0.0.1:{admin}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


@dataclass
class Process:
    """A running gateway."""

    pid: int
    port: int
    admin: int
    session: aiohttp.ClientSession

    def megabytes(self) -> float:
        """The memory that the process holds now."""
        fields = Path(f"/proc/{self.pid}/statm").read_text(encoding="utf-8").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def ask(self, *, headers: Mapping[str, str] | None = None, **more: Any) -> tuple[int, float]:
        """The status of a request with the key, and the seconds that it took."""
        started = time.monotonic()
        headers = {"Authorization": f"Bearer {KEY}", **(headers or {})}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        async with self.session.post(url, json={**BODY, **more}, headers=headers) as answer:
            await answer.read()
            return answer.status, time.monotonic() - started

    async def ready(self) -> bool:
        """Return the result of the readiness probe."""
        return await is_ready(self.session, self.admin)

    async def until_ready(self, *, ready: bool = True) -> None:
        """Wait for the readiness probe to say so."""
        async with asyncio.timeout(PATIENCE):
            while await self.ready() != ready:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def metrics(self) -> str:
        """As Prometheus reads them."""
        async with self.session.get(f"http://127.0.0.1:{self.admin}/metrics") as answer:
            return await answer.text()


@asynccontextmanager
async def gateway(
    vllm: FakeVllm, folder: Path, *, keyed: bool = True, variables: Mapping[str, str] | None = None, **limits: Any
) -> AsyncGenerator[Process]:
    """Start a gateway that serves the base model as ``bot``."""
    (folder / "keys").mkdir()
    (folder / "keys" / "client").write_text(digest_of(KEY))
    (folder / "desired").write_text(json.dumps({"generation": 1, "aliases": {"bot": [{"model": "base"}]}}))
    port, admin = free_port(), free_port()
    environment = {
        "DISTILLERY_UPSTREAM_URL": vllm.url,
        "DISTILLERY_PORT": str(port),
        "DISTILLERY_ADMIN_PORT": str(admin),
        "DISTILLERY_ROUTING_FILE": str(folder / "desired"),
        "DISTILLERY_LIMITS": json.dumps(limits),
        **({"DISTILLERY_API_KEYS_DIR": str(folder / "keys")} if keyed else {}),
        **(variables or {}),
    }
    with (folder / "log").open("wb") as log:
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "distillery_gateway.main", env={**os.environ, **environment}, stderr=log
        )
    try:
        async with aiohttp.ClientSession() as session:
            process = Process(started.pid, port, admin, session)
            ready, ended = asyncio.create_task(process.until_ready()), asyncio.create_task(started.wait())
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            assert started.returncode is None, (folder / "log").read_text()
            ended.cancel()
            await ready
            yield process
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()
