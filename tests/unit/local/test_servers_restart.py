"""A local model server that dies in the middle of a stage is started again, where requests wait for it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from distillery.core.api import parse
from distillery.core.artifacts import Store
from distillery.core.model_servers import ServedModel
from distillery.local.servers import _MAX_RESTARTS, Servers
from distillery.serving.vllm import ServerFailed, VllmServer
from tests.unit.documents import document

SERVE = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@dataclass
class StandIn(VllmServer):
    """Answers when it is asked for its health, and does nothing else."""

    restarted: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def restart(self) -> Self:
        await super().restart()
        self.restarted.set()
        return self

    def _command(self) -> list[str]:
        return [sys.executable, "-c", SERVE, str(self.port)]

    def kill(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)


@pytest.fixture
def servers(tmp_path: Path) -> Servers:
    store: Store = None  # type: ignore[assignment] - no student is served
    return Servers(parse(document()).spec, store, tmp_path / "vllm.log")


async def test_server_is_started_again_at_its_port_when_it_dies(servers: Servers, tmp_path: Path):
    server = await StandIn(ServedModel("/m", "m"), tmp_path / "vllm.log").start()
    servers._server, port = server, server.port
    keeper = asyncio.create_task(servers.keep())
    try:
        async with asyncio.timeout(300):
            for _ in range(_MAX_RESTARTS):
                server.restarted.clear()
                server.kill()
                await server.restarted.wait()
                assert await server.healthy()
                assert server.port == port
            server.kill()
            with pytest.raises(ServerFailed, match="vLLM died 4 times during one stage"):
                await keeper
    finally:
        keeper.cancel()
        await servers.stop()
