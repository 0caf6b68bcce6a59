"""The number of failures of users so far: the recorders in serving pods are asked, for they reach the database."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from distillery_operator.manifests import recorder
from distillery_operator.model.objects import Manifest
from distillery_operator.pods import client

_MOST = 10**9  # what a pod says is not trusted


async def failures(pods: Iterable[Manifest], *, port: int = recorder.PORT) -> int:
    """Return the number of failed sessions: the largest of the recorders' counts, or 0 if none answers."""
    async with client.session() as session:
        asked = (partial(client.ask, session, pod, port, "/state", read=_count) for pod in pods if _records(pod))
        return max(await client.gather(asked), default=0)


def _count(told: Any) -> int:
    return min(_MOST, max(0, int(told["failures"])))


def _records(pod: Manifest) -> bool:
    named = (container["name"] for container in pod["spec"].get("initContainers", []))
    return bool(pod["status"].get("podIP")) and recorder.NAME in named
