"""The progress of a running stage, as its pod serves it at ``/progress`` and the operator reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class StageProgress:
    """How far a stage is.

    Attributes:
        stage: its name.
        done: units of work that are completed.
        total: units of work; 0 if unknown.
        unit: what is counted, such as ``episodes``.
        eta_seconds: the seconds to the end at the rate so far; None before there is one.
    """

    stage: str
    done: int
    total: int
    unit: str
    eta_seconds: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "etaSeconds": self.eta_seconds,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read a document that may come from anyone. Raises KeyError, ValueError or TypeError where it is none."""
        eta = document.get("etaSeconds")
        return cls(
            stage=str(document["stage"]),
            done=int(document["done"]),
            total=int(document["total"]),
            unit=str(document["unit"]),
            eta_seconds=eta if isinstance(eta, int) else None,
        )
