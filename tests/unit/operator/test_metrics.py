"""The operator's probes."""

from __future__ import annotations

import aiohttp
import pytest

from distillery.core.child_processes import free_port
from distillery_operator import metrics


async def test_operator_is_ready_but_not_alive_when_the_api_server_is_silent(monkeypatch: pytest.MonkeyPatch):
    port = free_port()
    async with metrics.Metrics().serve(port), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.get("/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        monkeypatch.setattr(metrics, "_MAX_SILENT_SECONDS", 0.0)
        async with session.get("/healthz") as answer:
            assert (answer.status, await answer.text()) == (503, "the API server is silent\n")
        async with session.get("/readyz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
