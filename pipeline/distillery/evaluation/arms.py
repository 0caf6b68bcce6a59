"""The results of a round's arms, from the episodes in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distillery.core.planner.graph import BASELINE
from distillery.database import Database, Row
from distillery.evaluation.statistics import Outcomes, holm, paired, rate_over_tasks

# Pairs that say something beyond "better than the baseline"; those whose arms were both played are compared.
_PAIRS = (
    ("distilled", "sft"),
    ("distilled", "rag"),
    ("distilled", "placebo-distilled"),
    ("distilled-matched", "sft-matched"),
    ("distilled-matched", "placebo-distilled-matched"),
    ("distilled-unfiltered", "sft-unfiltered"),
    ("distilled-unfiltered", "placebo-distilled-unfiltered"),
    ("distilled+rag", "distilled"),
    ("rag", "placebo"),
)


@dataclass(frozen=True, slots=True)
class ArmOutcomes:
    """The episodes of one arm: rows of the table ``episode``."""

    rows: Sequence[Row]

    def of(self, metric: str) -> Outcomes:
        """Return task -> outcomes by seed, of ``success`` or ``score``, as numbers."""
        outcomes: dict[str, list[float]] = {}
        for row in self.rows:
            outcomes.setdefault(row["task_id"], []).append(float(row[metric]))
        return outcomes

    def without(self, tasks: Collection[str]) -> ArmOutcomes:
        """Return the arm on all other tasks."""
        return ArmOutcomes([row for row in self.rows if row["task_id"] not in tasks])

    def mean(self, metric: str) -> float:
        """Return the mean over episodes."""
        return float(np.mean([float(row[metric]) for row in self.rows]))

    def summary(self) -> dict[str, Any]:
        """Return the arm's line in a report; tokens per episode, prompt and completion together.

        ``uncachedTokens`` gives credit for prompt tokens that the server had cached; None where it does not tell.
        ``cutReplies`` is the share of replies that the server cut (at ``maxTokens``, or a filter).
        """
        rows = self.rows
        interval = rate_over_tasks(self.of("success"))
        played = [row for row in rows if row["prompt_tokens"] is not None]
        tokens = [row["prompt_tokens"] + row["completion_tokens"] for row in played]
        told = all(row["cached_tokens"] is not None for row in played)
        cached = [row["cached_tokens"] for row in played] if told else []
        replies = sum(row["turns"] for row in played)
        return {
            "n": len(rows),
            "tasks": len({row["task_id"] for row in rows}),
            "successes": sum(row["success"] for row in rows),
            "success": interval.rate,
            "ci": [interval.low, interval.high],
            "score": self.mean("score"),
            "steps": float(np.mean([row["steps"] for row in played])) if played else 0.0,
            "tokens": float(np.mean(tokens)) if played else 0.0,
            "uncachedTokens": float(np.mean(np.subtract(tokens, cached))) if played and told else None,
            "invalidActions": float(np.mean([row["invalid_actions"] for row in played])) if played else 0.0,
            "broken": sum(row["stop_reason"] == "broken" for row in rows),
            "refused": sum(row["stop_reason"] == "refused" for row in rows),
            "cutReplies": sum(row["cut_replies"] or 0 for row in played) / replies if replies else 0.0,
        }


async def outcomes_of(database: Database, run_id: int, round: int, arms: Sequence[str]) -> dict[str, ArmOutcomes]:
    """Read the finished episodes of a round's arms, in the order of ``arms``, without arms that were not played."""
    rows = await database.fetch(
        """SELECT arm, task_id, category, seed, success, score, stop_reason, steps, invalid_actions, prompt_tokens,
                  completion_tokens, cached_tokens, turns, cut_replies
           FROM episode WHERE run_id = %s AND round = %s AND arm = ANY(%s) AND phase = 'finished'
           ORDER BY task_id, seed""",
        run_id, round, list(arms),
    )  # fmt: skip
    found = {arm: [row for row in rows if row["arm"] == arm] for arm in arms}
    return {arm: ArmOutcomes(of_arm) for arm, of_arm in found.items() if of_arm}


def with_stand_ins(arms: Mapping[str, ArmOutcomes], same_as: Mapping[str, str]) -> dict[str, ArmOutcomes]:
    """Return the arms, and each student that was not trained with the outcomes of the identical one."""
    return {**arms, **{student: arms[other] for student, other in same_as.items() if other in arms}}


def pooled(runs: Sequence[Mapping[str, ArmOutcomes]]) -> dict[str, ArmOutcomes]:
    """Pool runs that differ in their seeds: the arms that all of them played.

    Tasks are the units, as within a run. Where every run drew tasks of its own, there are more of them; where all were
    judged on the same ones, each has an outcome a run, and comparisons resample tasks, not episodes.
    """
    first, *others = runs
    shared = [arm for arm in first if all(arm in other for other in others)]
    return {arm: ArmOutcomes([row for run in runs for row in run[arm].rows]) for arm in shared}


def compare(
    arms: Mapping[str, ArmOutcomes], metric: str, *, same_as: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Compare every arm with the baseline, and the pairs that show the source of a gain; p-values also after Holm.

    Args:
        arms: that were played.
        metric: what is compared.
        same_as: students that were not trained because another, which stands for them, learned from the same episodes.
    """
    same_as = same_as or {}
    pairs = [(arm, BASELINE) for arm in arms if arm != BASELINE and BASELINE in arms]
    named = dict.fromkeys((same_as.get(a, a), same_as.get(b, b)) for a, b in _PAIRS)
    pairs += [(a, b) for a, b in named if a in arms and b in arms]
    found = [(a, b, paired(arms[a].of(metric), arms[b].of(metric))) for a, b in pairs]
    adjusted = holm([difference.p for _, _, difference in found])
    return [
        {
            "a": a,
            "b": b,
            "metric": metric,
            "tasks": d.tasks,
            "difference": d.difference,
            "ci": [d.low, d.high],
            "onlyA": d.only_a,
            "onlyB": d.only_b,
            "p": d.p,
            "pHolm": p_holm,
            "test": d.test,
        }
        for (a, b, d), p_holm in zip(found, adjusted, strict=True)
    ]
