"""What a vLLM says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

_TIMEOUT = aiohttp.ClientTimeout(total=5)


async def served(session: aiohttp.ClientSession, upstream: str) -> Mapping[str, str | None]:
    """The models that a vLLM serves now, with their parents; adapters have one. Raises aiohttp.ClientError."""
    return {model["id"]: model.get("parent") for model in await _models(session, upstream)}


async def served_with_context(session: aiohttp.ClientSession, upstream: str) -> tuple[frozenset[str], int | None]:
    """The models that a vLLM serves now, and the tokens that a prompt and its answer may have together.

    Raises aiohttp.ClientError. The context is None where the server does not say.
    """
    models = await _models(session, upstream)
    contexts = [length for model in models if isinstance(length := model.get("max_model_len"), int)]
    return frozenset(model["id"] for model in models), max(contexts, default=None)


async def _models(session: aiohttp.ClientSession, upstream: str) -> Sequence[Mapping[str, Any]]:
    async with session.get(f"{upstream}/v1/models", timeout=_TIMEOUT) as answer:
        answer.raise_for_status()
        return (await answer.json())["data"]
