"""The requests of the operator to pods: answers are not trusted, and nothing in them stops the operator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import aiohttp

from distillery_operator.model.objects import Manifest, address

_TIMEOUT = aiohttp.ClientTimeout(total=3)
_MAX_BYTES = 64 * 1024
_MAX_CONCURRENCY = 100
_DEADLINE_SECONDS = 6.0
"""The limit for all questions about a run together, however many of its pods are silent."""

T = TypeVar("T")


def session() -> aiohttp.ClientSession:
    """Return a session for :func:`ask`. It does not decompress, because the result could be of any size."""
    return aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)


async def ask(
    asking: aiohttp.ClientSession, pod: Manifest, port: int, path: str, *, read: Callable[[Any], T]
) -> T | None:
    """Return the answer of a pod; None if it does not answer, answers too much, or its answer can't be read.

    Args:
        asking: by :func:`session`.
        pod: with an address.
        port: of the pod.
        path: of the question.
        read: parses the JSON; may raise the exceptions that wrong JSON causes.
    """
    raw = bytearray()
    try:
        async with asking.get(f"http://{address(pod)}:{port}{path}", allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            async for chunk in answer.content.iter_any():
                raw += chunk
                if len(raw) > _MAX_BYTES:
                    return None
        return read(json.loads(raw))
    except (aiohttp.ClientError, TimeoutError):
        return None  # not up yet, or on its way out
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None


async def gather(
    questions: Iterable[Callable[[], Awaitable[T | None]]], *, seconds: float = _DEADLINE_SECONDS
) -> list[T]:
    """Return the answers that come in time, in the order of the questions; a late one counts as none."""
    semaphore = asyncio.Semaphore(_MAX_CONCURRENCY)

    async def put(question: Callable[[], Awaitable[T | None]]) -> T | None:
        async with semaphore:
            return await question()

    tasks = [asyncio.create_task(put(question)) for question in questions]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        answered = (task.result() for task in tasks if task.done())
        return [answer for answer in answered if answer is not None]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
