"""The rules of promotion: when a student is promoted, and how its weights are published."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distillery.core.api.base import PluginName, SpecModel


class Gate(SpecModel):
    """The test that decides whether the candidate of a round replaces the model that the round started with."""

    candidate: PluginName = "distilled"
    """candidate is the student of each round that is judged, promoted and served. It is one of the students among
    ``evaluation.arms``, for those need no hints when they play."""

    metric: Literal["success", "score"] = "success"
    """metric is the result that is compared, task by task."""

    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    """confidence is that of the paired test. The test is exact McNemar's for success with one rollout per task, else a
    sign-flip permutation of tasks."""

    max_forgetting: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """maxForgetting is the largest share of tasks that a promoted candidate may lose against the baseline, as a
    fraction. Over all held-out tasks it must be shown, with ``confidence``, that no more is lost. A category blocks a
    promotion only if a larger loss is shown. Default: no limit."""

    min_improvement: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """minImprovement is the smallest difference, as a fraction, that is worth a promotion."""


class Promotion(SpecModel):
    """The rules for a student that has been evaluated."""

    policy: Literal["Auto", "Never"] = "Auto"
    """policy is ``Auto`` to serve a student that passes the gate, or ``Never`` to report the verdict only."""

    gate: Gate = Gate()
    """gate is the test that a candidate must pass to be promoted."""

    weights: Literal["auto", "merged", "adapter"] = "auto"
    """weights is how the student is served: as merged weights, or as an adapter of the base model. ``auto`` takes
    merged weights on a CPU, where adapters are several times slower, and an adapter on a GPU."""
