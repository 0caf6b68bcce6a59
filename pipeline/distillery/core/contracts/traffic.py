"""The traffic counts that a gateway reports at ``/state``, and from which the operator judges a canary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

_MAX_COUNT = 2**53
"""The largest integer that JSON holds exactly; a pod is not trusted with more."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The traffic counts of one target since its routing document was applied.

    Attributes:
        requests: that ended, and those that wait for too long. Retries and invalid requests are not counted.
        errors: requests that the server behind the gateway failed, or had no capacity for.
        outcomes: sessions whose clients reported an outcome.
        successes: those that succeeded.
        slow: requests without a first token after the time that the document allows, whether they end or not; and those
            whose client had some patience and left without one.
    """

    requests: int = 0
    errors: int = 0
    outcomes: int = 0
    successes: int = 0
    slow: int = 0

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Return the counts that a pod reports. Raises ValueError, TypeError or KeyError if they are impossible."""
        reported = {"slow": 0, **document}  # a gateway of an earlier release counts no slow requests
        counts = cls(**{field.name: int(reported[field.name]) for field in fields(cls)})
        possible = 0 <= counts.errors <= counts.requests and 0 <= counts.successes <= counts.outcomes
        possible = possible and 0 <= counts.slow <= counts.requests
        if not possible or max(counts.requests, counts.outcomes) > _MAX_COUNT:
            raise ValueError(f"impossible counts: {counts}")
        return counts

    @classmethod
    def sum(cls, parts: Iterable[Counts]) -> Self:
        """Return the sum of the counts of all pods."""
        several = tuple(parts)
        return cls(**{field.name: sum(getattr(part, field.name) for part in several) for field in fields(cls)})

    def to_document(self) -> dict[str, int]:
        """Return the counts as ``/state`` has them, and as :meth:`read` takes them."""
        return asdict(self)
