"""The gate: a student is promoted if it beats the model that the round started with, and not otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from distillery.api.evaluation import Gate
from distillery.evaluation.statistics import Difference


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """``Successful``, ``Failed`` (worse) or ``Inconclusive``, and why, in one sentence."""

    verdict: str
    reason: str


def judge(gate: Gate, difference: Difference) -> GateVerdict:
    """The verdict on a candidate, given how it differs from the incumbent on the pinned tasks."""
    alpha = 1 - gate.confidence
    d = difference
    numbers = (
        f"{gate.metric} differs by {100 * d.difference:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}] "
        f"over {d.tasks} tasks (p = {d.p:.2g}, {d.test})"
    )
    significant = d.p <= alpha
    if significant and d.difference < 0:
        return GateVerdict("Failed", f"The student is worse: {numbers}.")
    if not significant:
        return GateVerdict(
            "Inconclusive",
            f"The student is not better with {100 * gate.confidence:g} % confidence: {numbers}.",
        )
    if d.difference <= gate.min_improvement:
        return GateVerdict(
            "Inconclusive",
            f"The student is better, but not by more than the {100 * gate.min_improvement:g} points asked for: "
            f"{numbers}.",
        )
    return GateVerdict("Successful", f"The student is better: {numbers}.")
