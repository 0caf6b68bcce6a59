"""The records of rounds that ended, as the status keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from distillery.core.planner import ArmScore, Promotion, Verdict


@dataclass(frozen=True, slots=True)
class RoundRecord(Verdict):
    """A record of ``status.rounds``: the planner's verdict, when the round ended, and what live traffic said.

    Attributes:
        completion_time: when it ended.
        rejected: live traffic rejected its student: the canary was rolled back.
    """

    completion_time: str
    rejected: bool = False

    @classmethod
    def from_status(cls, record: Mapping[str, Any]) -> Self:
        """Read a record of ``status.rounds``."""
        promotion = Promotion(
            record["verdict"],
            record.get("reason", ""),
            record["promoted"],
            record.get("metricValue", 0.0),
            {name: ArmScore.read(arm) for name, arm in record.get("arms", {}).items()},
            record.get("students", {}),
            record.get("start", ""),
            record.get("candidate", "distilled"),
            record.get("lost"),
        )
        return cls(
            record["round"],
            record.get("student") or None,
            promotion,
            record.get("completionTime", ""),
            record.get("rejected", False),
        )

    def to_status(self) -> dict[str, Any]:
        """Write a record of ``status.rounds``."""
        return {
            "round": self.round,
            "verdict": self.promotion.outcome,
            "reason": self.promotion.reason,
            "promoted": self.promotion.promoted,
            "student": self.student or "",
            "metricValue": self.promotion.metric,
            "arms": {name: arm.to_json() for name, arm in self.promotion.arms.items()},
            "students": dict(self.promotion.students),
            "start": self.promotion.start,
            "candidate": self.promotion.candidate,
            "rejected": self.rejected,
            **({} if self.promotion.lost is None else {"lost": self.promotion.lost}),
            "completionTime": self.completion_time,
        }


def read_rounds(status: Mapping[str, Any]) -> dict[int, RoundRecord]:
    """Return the rounds of a status that ended, by their numbers, in order."""
    return {record["round"]: RoundRecord.from_status(record) for record in status.get("rounds", [])}
