"""The gate: a student is promoted if it beats the model that the round started with, and not otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from distillery.core.api.spec.promotion import Gate
from distillery.evaluation.power import POWER, tasks_needed
from distillery.evaluation.statistics import Difference


@dataclass(frozen=True, slots=True)
class GateResult:
    """The result of the gate: ``Successful``, ``Failed`` (worse) or ``Inconclusive``, and why, in one sentence."""

    verdict: str
    reason: str


def required_confidence(gate: Gate, look: int) -> float:
    """Return the confidence that the k-th look of a run at a candidate asks for.

    Of the allowed error, the first look may spend all, and look k one part in k (k - 1): over any number of looks at
    most twice the error. The test has two sides, of which one promotes. So a run in which no student is better promotes
    any with a probability of at most ``1 - gate.confidence``, however many rounds it has.
    """
    return 1 - (1 - gate.confidence) / max(1, look * (look - 1))


def judge(gate: Gate, difference: Difference, *, look: int = 1) -> GateResult:
    """Return the verdict on a candidate.

    Args:
        gate: the evidence that the candidate needs.
        difference: from the baseline on the pinned tasks.
        look: how often the run judged a candidate, with this time: of earlier rounds, or of this one on fewer tasks.
    """
    confidence = required_confidence(gate, look)
    alpha = 1 - confidence
    d = difference
    numbers = (
        f"{gate.metric} differs by {100 * d.difference:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}] "
        f"over {d.tasks} tasks (p {'< 1e-15' if d.p < 1e-15 else f'= {d.p:.2g}'}, {d.test})"
    )
    if look > 1:
        numbers += f", look {look}, at {100 * confidence:g} % confidence"
    significant = d.p <= alpha
    if significant and d.difference < 0:
        return GateResult("Failed", f"The student is worse: {numbers}.")
    if not significant:
        return GateResult(
            "Inconclusive",
            f"The student is not better with {100 * confidence:g} % confidence: {numbers}."
            + _name_tasks_needed(d, required_confidence(gate, look + 1)),
        )
    if d.difference <= gate.min_improvement:
        return GateResult(
            "Inconclusive",
            f"The student is better, but not by more than the {100 * gate.min_improvement:g} points asked for: "
            f"{numbers}.",
        )
    return GateResult("Successful", f"The student is better: {numbers}.")


def _name_tasks_needed(difference: Difference, confidence: float) -> str:
    """Return a sentence on how many tasks would show a difference as observed; empty if no number is known."""
    if difference.only_a is None or difference.only_b is None:
        return ""
    discordant = (difference.only_a + difference.only_b) / difference.tasks
    needed = tasks_needed(difference=difference.difference, discordant=discordant, confidence=confidence)
    if needed is None or needed <= difference.tasks:
        return ""
    return (
        f" If it is as large as it looks, some {needed:,} tasks would show it with {100 * POWER:g} % power: "
        "spec.environment.tasks.evaluate can grow."
    )
