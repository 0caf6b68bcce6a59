"""What a vLLM says of itself."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

_TIMEOUT = aiohttp.ClientTimeout(total=5)


async def served(session: aiohttp.ClientSession, upstream: str) -> Mapping[str, str | None]:
    """The models that a vLLM serves now, with their parents; adapters have one. Raises aiohttp.ClientError."""
    async with session.get(f"{upstream}/v1/models", timeout=_TIMEOUT) as answer:
        answer.raise_for_status()
        document = await answer.json()
    return {model["id"]: model.get("parent") for model in document["data"]}
