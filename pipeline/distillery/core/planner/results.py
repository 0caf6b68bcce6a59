"""The result of a stage, as far as a plan or a status depends on it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

_SUMMARY = (
    "run", "student", "gate", "promoted", "metric", "start", "candidate", "students", "passed", "environment",
    "heldOutTasks",
)  # fmt: skip

_MAX_NAME = 63


@dataclass(frozen=True, slots=True)
class ArmScore:
    """The success of an arm.

    Attributes:
        n: episodes.
        success: the share of them that solved their tasks.
        ci: its interval, from low to high.
    """

    n: int
    success: float
    ci: tuple[float, float]

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Read an arm of a result. Raises KeyError, TypeError or ValueError."""
        low, high = document["ci"]
        return cls(int(document["n"]), float(document["success"]), (float(low), float(high)))

    def to_json(self) -> dict[str, Any]:
        """Write what :meth:`read` reads."""
        return {"n": self.n, "success": self.success, "ci": list(self.ci)}


@dataclass(frozen=True, slots=True)
class Promotion:
    """The result of stage promote.

    Attributes:
        outcome: ``Successful``, ``Failed`` or ``Inconclusive``.
        reason: one sentence.
        promoted: the student replaced the model that the round started with.
        metric: the mean that ``rounds.target`` is compared with, of the model that the round ended with.
        arms: the success of each arm.
        students: the digest of the adapter of each student that the round trained, by its name.
        start: the name of the model that the round started with; empty if it is not recorded.
        candidate: the name of the student that was judged.
        lost: how many held-out tasks the baseline solved and the candidate did not; None if it is not recorded.
    """

    outcome: str
    reason: str
    promoted: bool
    metric: float
    arms: Mapping[str, ArmScore] = field(default_factory=dict)
    students: Mapping[str, str] = field(default_factory=dict)
    start: str = ""
    candidate: str = "distilled"
    lost: int | None = None

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Read the result of a stage promote. Raises KeyError, TypeError or ValueError."""
        gate, students = document["gate"], dict(document.get("students", {}))
        # what was measured on tasks that no gate had seen is what is reported
        arms = {**document.get("arms", {}), **document.get("confirm", {}).get("arms", {})}
        return cls(
            str(gate["verdict"]),
            str(gate["reason"]),
            bool(document["promoted"]),
            float(document["metric"]),
            {name: ArmScore.read(arm) for name, arm in arms.items()},
            {str(name): str(digest) for name, digest in students.items()},
            _read_name(document.get("start", "")),
            _read_name(document.get("candidate", "distilled")),
            _count(document.get("lost")),
        )


def _read_name(value: Any) -> str:
    """Return a name that a status has room for. Raises ValueError."""
    if len(name := str(value)) > _MAX_NAME:
        raise ValueError(f"a name of {len(name)} characters")
    return name


def _count(value: Any) -> int | None:
    """Return the number of tasks in a list, or that a summary has in its place. Raises TypeError or ValueError."""
    return value if value is None else len(value) if isinstance(value, list) else int(value)


@dataclass(frozen=True, slots=True)
class StageResult:
    """The result of a stage that succeeded.

    Attributes:
        student: of train and promote: the digest of the student's adapter; None if there was nothing to learn from.
        held_out_tasks: of prepare, evaluate and promote: the number of held-out tasks; None for other stages.
        promotion: of promote: what became of the student; None for other stages.
        passed: of judge: the candidate is worth confirming; None for other stages.
        start: of sample and promote: the name of the model that the round started with; None for other stages.
        document: the manifest, or the part of it that was reported.
    """

    student: str | None = None
    held_out_tasks: int | None = None
    promotion: Promotion | None = None
    start: str | None = None
    passed: bool | None = None
    document: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Read a manifest, or a summary that may come from anyone. Raises KeyError, TypeError or ValueError."""
        student, held_out_tasks, start = (document.get(key) for key in ("student", "heldOutTasks", "start"))
        return cls(
            None if student is None else str(student),
            None if held_out_tasks is None else int(held_out_tasks),
            Promotion.read(document) if "gate" in document and "passed" not in document else None,
            _read_name(start) if start else None,
            bool(document["passed"]) if "passed" in document else None,
            document,
        )

    def summarize(self) -> dict[str, Any]:
        """Return the part of the document that :meth:`read` and the status need; of the arms only their success."""
        summary = {key: self.document[key] for key in _SUMMARY if key in self.document}
        if self.promotion:
            summary["arms"] = {name: arm.to_json() for name, arm in self.promotion.arms.items()}
            if self.promotion.lost is not None:
                summary["lost"] = self.promotion.lost
        return summary
