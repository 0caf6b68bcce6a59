"""The number of failures of users so far, as the recorders in serving pods report it from the database."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from distillery_operator.manifests import recorder
from distillery_operator.model.objects import Manifest
from distillery_operator.pods import client

_MAX_FAILURES = 10**9  # the reports of pods are not trusted


async def count_failures(pods: Iterable[Manifest], *, port: int = recorder.PORT) -> int:
    """Return the number of failed sessions: the largest of the recorders' counts, or 0 if none answers."""
    async with client.session() as session:
        asked = (
            partial(client.ask, session, pod, port, "/state", read=_read_count) for pod in pods if _has_recorder(pod)
        )
        return max(await client.gather(asked), default=0)


def _read_count(payload: Any) -> int:
    return min(_MAX_FAILURES, max(0, int(payload["failures"])))


def _has_recorder(pod: Manifest) -> bool:
    names = (container["name"] for container in pod["spec"].get("initContainers", []))
    return bool(pod["status"].get("podIP")) and recorder.NAME in names
