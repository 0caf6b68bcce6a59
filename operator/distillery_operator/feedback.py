"""How many failures of users have gathered: the recorders in serving pods are asked, for they reach the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import aiohttp

from distillery_operator.manifests import recorder
from distillery_operator.objects import Object, address

_TIMEOUT = aiohttp.ClientTimeout(total=3)
_MOST = 10**9  # what a pod says is not trusted


async def failures(pods: Iterable[Object], *, port: int = recorder.PORT) -> int:
    """What the recorders count; the most of it, for they share the database and some lag. 0 where none answers."""
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:

        async def one(pod: Object) -> int:
            try:
                async with session.get(f"http://{address(pod)}:{port}/state") as answer:
                    return min(_MOST, max(0, int((await answer.json())["failures"])))
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
                return 0  # not up yet, or on its way out

        return max(await asyncio.gather(*(one(pod) for pod in pods if _records(pod))), default=0)


def _records(pod: Object) -> bool:
    named = (container["name"] for container in pod["spec"].get("initContainers", []))
    return bool(pod["status"].get("podIP")) and recorder.NAME in named
