"""The results of a round's arms, from the episodes in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distillery.core.planner.plays import COMPARISONS, Comparison, find_reference
from distillery.database import Row
from distillery.database.episodes import EpisodeStore
from distillery.evaluation.costs import Cost, are_equal
from distillery.evaluation.statistics import Scores, adjust_p_values, compare_paired, estimate_rate


@dataclass(frozen=True, slots=True)
class ArmResults:
    """The episodes of one arm: rows of the table ``episode``."""

    rows: Sequence[Row]

    def of(self, metric: str) -> Scores:
        """Return task -> scores by seed, of ``success`` or ``score``, as numbers."""
        scores: dict[str, list[float]] = {}
        for row in self.rows:
            scores.setdefault(row["task_id"], []).append(float(row[metric]))
        return scores

    def mean_by_task(self, metric: str) -> dict[str, float]:
        """Return the mean over a task's episodes, by task."""
        return {task: sum(scores) / len(scores) for task, scores in self.of(metric).items()}

    def without(self, tasks: Collection[str]) -> ArmResults:
        """Return the arm on all other tasks."""
        return ArmResults([row for row in self.rows if row["task_id"] not in tasks])

    def mean(self, metric: str) -> float:
        """Return the mean over episodes."""
        return float(np.mean([float(row[metric]) for row in self.rows]))

    def summary(self) -> dict[str, Any]:
        """Return the arm's line in a report; tokens per episode, prompt and completion together.

        ``uncachedTokens`` gives credit for prompt tokens that the server had cached; None if unknown.
        ``cutReplies`` is the share of replies that the server cut (at ``maxTokens``, or a filter).
        """
        rows = self.rows
        interval = estimate_rate(self.of("success"))
        played = [row for row in rows if row["prompt_tokens"] is not None]
        tokens = [row["prompt_tokens"] + row["completion_tokens"] for row in played]
        reported = all(row["cached_tokens"] is not None for row in played)
        cached = [row["cached_tokens"] for row in played] if reported else []
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
            "uncachedTokens": float(np.mean(np.subtract(tokens, cached))) if played and reported else None,
            "invalidActions": float(np.mean([row["invalid_actions"] for row in played])) if played else 0.0,
            "broken": sum(row["stop_reason"] == "broken" for row in rows),
            "refused": sum(row["stop_reason"] == "refused" for row in rows),
            "cutReplies": sum(row["cut_replies"] or 0 for row in played) / replies if replies else 0.0,
        }


async def read_results(episodes: EpisodeStore, round: int, arms: Sequence[str]) -> dict[str, ArmResults]:
    """Read the finished episodes of a round's arms, in the order of ``arms``, without arms that were not played."""
    rows = await episodes.read_results(round, arms=arms)
    by_arm = {arm: [row for row in rows if row["arm"] == arm] for arm in arms}
    return {arm: ArmResults(of_arm) for arm, of_arm in by_arm.items() if of_arm}


def add_identical_students(arms: Mapping[str, ArmResults], same_as: Mapping[str, str]) -> dict[str, ArmResults]:
    """Return the arms, and each student that was not trained with the results of the identical one."""
    return {**arms, **{student: arms[other] for student, other in same_as.items() if other in arms}}


def pool_runs(runs: Sequence[Mapping[str, ArmResults]]) -> dict[str, ArmResults]:
    """Pool runs that differ in their seeds: the arms that all of them played.

    Tasks are the units, as within a run. Where every run drew tasks of its own, there are more of them; where all were
    judged on the same ones, each has a score a run, and comparisons resample tasks, not episodes.
    """
    first, *others = runs
    shared = [arm for arm in first if all(arm in other for other in others)]
    return {arm: ArmResults([row for run in runs for row in run[arm].rows]) for arm in shared}


def compare(
    arms: Mapping[str, ArmResults],
    metric: str,
    *,
    comparisons: Sequence[Comparison] = COMPARISONS,
    same_as: Mapping[str, str] | None = None,
    costs: Mapping[str, Cost] | None = None,
) -> list[dict[str, Any]]:
    """Compare every arm with the base model, and the pairs that show the source of a gain; p-values also after Holm.

    In a round that starts with the base model, the baseline is the base model.

    Args:
        arms: that were played.
        metric: what is compared.
        comparisons: pairs in addition to those with the base model; those whose arms were not played are left out.
        same_as: students that were not trained because another, which stands for them, learned from the same episodes.
        costs: of the arms; a claim of equal cost that they do not bear out has no p-value.
    """
    same_as, costs = same_as or {}, costs or {}
    reference = find_reference(arms)
    pairs = [(arm, reference) for arm in arms if arm != reference and reference in arms]
    named = {(same_as.get(c.arm, c.arm), same_as.get(c.against, c.against)): c for c in comparisons}
    claims = [pair for pair, c in named.items() if c.equal_cost]
    unequal = {(a, b) for a, b in claims if a not in costs or b not in costs or not are_equal(costs[a], costs[b])}
    pairs += [(a, b) for a, b in named if a in arms and b in arms and (a, b) not in pairs]
    differences = [(a, b, compare_paired(arms[a].of(metric), arms[b].of(metric))) for a, b in pairs]
    adjusted = adjust_p_values([difference.p for _, _, difference in differences])
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
            "p": None if (a, b) in unequal else d.p,
            "pHolm": None if (a, b) in unequal else p_holm,
            "unequalCosts": (a, b) in unequal,
            "test": d.test,
        }
        for (a, b, d), p_holm in zip(differences, adjusted, strict=True)
    ]
