"""What pods answer when the operator asks them: it is not trusted, and nothing that they say stops the operator."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp

from distillery_operator.objects import Object, address

_TIMEOUT = aiohttp.ClientTimeout(total=3)
_MOST_BYTES = 64 * 1024

T = TypeVar("T")


def session() -> aiohttp.ClientSession:
    """For questions. What is compressed is not unpacked: nobody knows how much it would become."""
    return aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)


async def ask(
    asking: aiohttp.ClientSession, pod: Object, port: int, path: str, *, read: Callable[[Any], T]
) -> T | None:
    """What a pod says; None where it does not answer, says too much, or says what can't be read.

    Args:
        asking: by :func:`session`.
        pod: with an address.
        port: of the pod.
        path: of the question.
        read: makes what is wanted of the JSON; may raise what wrong JSON makes it raise.
    """
    raw = bytearray()
    try:
        async with asking.get(f"http://{address(pod)}:{port}{path}", allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            async for chunk in answer.content.iter_any():
                raw += chunk
                if len(raw) > _MOST_BYTES:
                    return None
        return read(json.loads(raw))
    except (aiohttp.ClientError, TimeoutError):
        return None  # not up yet, or on its way out
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None
