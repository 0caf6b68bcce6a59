"""A fake vLLM for the processes of a pod."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.fakes.vllm import FakeVllm


@pytest.fixture
async def vllm() -> AsyncGenerator[FakeVllm]:
    async with FakeVllm() as server:
        yield server
