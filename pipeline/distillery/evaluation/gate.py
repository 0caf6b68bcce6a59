"""The gate: a student is promoted if it beats the model that the round started with, and not otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from distillery.api.evaluation import Gate
from distillery.evaluation.power import POWER, tasks_needed
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
            f"The student is not better with {100 * gate.confidence:g} % confidence: {numbers}."
            + _tasks_to_show(gate, d),
        )
    if d.difference <= gate.min_improvement:
        return GateVerdict(
            "Inconclusive",
            f"The student is better, but not by more than the {100 * gate.min_improvement:g} points asked for: "
            f"{numbers}.",
        )
    return GateVerdict("Successful", f"The student is better: {numbers}.")


def _tasks_to_show(gate: Gate, difference: Difference) -> str:
    """A sentence on how many tasks would show a difference as observed; empty where there is no such number."""
    if difference.only_a is None or difference.only_b is None:
        return ""
    discordant = (difference.only_a + difference.only_b) / difference.tasks
    needed = tasks_needed(difference=difference.difference, discordant=discordant, confidence=gate.confidence)
    if needed is None or needed <= difference.tasks:
        return ""
    return f" If it is as large as it looks, some {needed:,} tasks would show it with {100 * POWER:g} % power."
