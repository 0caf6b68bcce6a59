"""What the gateways of serving pods say that they serve, asked for at their port for operators.

A pod that does not answer says nothing: it counts as one that does not serve what it should.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import aiohttp

from distillery_operator.manifests.gateway import ADMIN_PORT
from distillery_operator.objects import Object, address

_TIMEOUT = aiohttp.ClientTimeout(total=3)
_AT_ONCE = 32


async def ask(pods: Iterable[Object], *, port: int = ADMIN_PORT) -> dict[str, int]:
    """The generation that each pod's gateway uses, by the pod's uid."""
    room = asyncio.Semaphore(_AT_ONCE)
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:

        async def one(pod: Object) -> tuple[str, int] | None:
            try:
                async with room, session.get(f"http://{address(pod)}:{port}/state") as answer:
                    return pod["metadata"]["uid"], int((await answer.json())["generation"])
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
                return None  # not up yet, or on its way out

        return dict(filter(None, await asyncio.gather(*map(one, pods))))
