"""The history of what a run served, which the operator passes to a Job by an environment variable.

The status of a run holds the newest entries only. The Job ``python -m distillery.database.served`` stores them in the
run's database, where they stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class ServingEntry:
    """A decision to serve a student.

    Attributes:
        student: the first digits of its adapter's digest, or ``base`` for the base model.
        round: the round that trained it; 0 for the base model.
        reason: a sentence that says why.
        time: when it was decided, in RFC 3339.
    """

    student: str
    round: int
    reason: str
    time: str

    @classmethod
    def from_status(cls, entry: Mapping[str, Any]) -> Self:
        """Return an entry of ``status.serving.history``. Raises KeyError for a field that is missing."""
        return cls(entry["student"], entry["round"], entry.get("reason", ""), entry["time"])


def to_json(entries: Iterable[ServingEntry]) -> str:
    """Return the document."""
    return json.dumps([asdict(entry) for entry in entries])


def from_json(document: str) -> Sequence[ServingEntry]:
    """Parse the document. Raises ValueError, TypeError or KeyError where it is none."""
    return [ServingEntry.from_status(entry) for entry in json.loads(document)]
