"""Questions to many pods, some of which say nothing."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from distillery_operator.pods import client


async def _answer(value: int | None, seconds: float = 0.0) -> int | None:
    await asyncio.sleep(seconds)
    return value


async def test_gather_waits_one_deadline_when_many_pods_are_silent():
    questions = [partial(_answer, n, 60.0 if n >= 3 else 0.0) for n in range(1000)]
    began = time.monotonic()
    assert await client.gather(questions, seconds=0.3) == [0, 1, 2]
    assert time.monotonic() - began < 5


async def test_answers_come_in_the_order_of_the_questions():
    assert await client.gather([partial(_answer, 1, 0.05), partial(_answer, None), partial(_answer, 2)]) == [1, 2]
    assert await client.gather([]) == []
