"""The status of a run as the operator wrote it last, and the detection of other writers."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from distillery_operator.model.objects import Manifest

_log = logging.getLogger(__name__)


class WrittenStatus:
    """The status of a run as this operator wrote it last.

    Args:
        seconds: how long another writer's status stays after a write of ours. Two writers that correct each other
            would never stop.

    Attributes:
        fields: the status.
    """

    def __init__(self, seconds: float) -> None:
        self.fields: dict[str, Any] = {}
        self._seconds = seconds
        self._is_reported = self._is_overwritten = False
        self._written = -math.inf
        self._compared: Manifest | None = None

    def adopt(self, body: Manifest) -> None:
        """Start from the status that a run has when it is first seen; from then on only this operator changes it."""
        self.fields = dict(body.get("status", {}))
        self._is_reported, self._is_overwritten = True, False

    def compare(self, body: Manifest) -> None:
        """Notice that another writer changed the status: an earlier leader whose request was late, or a user.

        Watches lag behind. So only a status that follows our own one is another writer's.
        """
        if body is self._compared:
            return
        if _to_json(body.get("status", {})) == _to_json(self.fields):
            self._is_reported = True
        elif self._is_reported:
            if time.monotonic() - self._written <= self._seconds:
                return
            name = f"{body['metadata']['namespace']}/{body['metadata']['name']}"
            _log.warning("run %s: another writer changed its status; writing it again", name)
            self._is_reported, self._is_overwritten = False, True
        self._compared = body

    def differs(self, status: Mapping[str, Any]) -> bool:
        """Return whether a status has to be written."""
        return self._is_overwritten or dict(status) != self.without_progress

    def keep(self, status: Mapping[str, Any]) -> None:
        """Keep a status that was written."""
        self.fields, self._is_reported, self._is_overwritten = dict(status), False, False
        self._written = time.monotonic()

    @property
    def without_progress(self) -> dict[str, Any]:
        """The part of the status that the controller writes."""
        return {key: value for key, value in self.fields.items() if key != "progress"}


def _to_json(status: Mapping[str, Any]) -> Any:
    """Return a status as JSON holds it, without the part of another writer of ours. 1.0 equals the 1 that is read."""
    return json.loads(json.dumps({key: value for key, value in status.items() if key != "progress"}))
