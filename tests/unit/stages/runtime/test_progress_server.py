"""The progress of a stage, served for the operator and Prometheus."""

from __future__ import annotations

import aiohttp
import pytest

from distillery.core.child_processes import free_port
from distillery.core.contracts.progress import StageProgress
from distillery.stages.runtime.progress_server import Status


async def test_progress_is_served_when_a_port_is_set(monkeypatch: pytest.MonkeyPatch):
    port = free_port()
    monkeypatch.setenv("DISTILLERY_STATUS_PORT", str(port))
    async with Status("r1-rollout") as status, aiohttp.ClientSession() as session:
        status.report(2, 8, "episodes")
        async with session.get(f"http://127.0.0.1:{port}/progress") as answer:
            assert StageProgress.from_json(await answer.json()) == StageProgress("r1-rollout", 2, 8, "episodes")
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert 'distillery_stage_units_completed{stage="r1-rollout"} 2.0' in await answer.text()
