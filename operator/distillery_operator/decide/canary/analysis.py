"""The verdict on a canary: no worse than allowed, worse, or not known yet, by the counts of live traffic. Pure.

Requests and sessions of the two sides are not paired, so rates are compared. The operator polls every few seconds, so
it compares them by a confidence sequence (``proportions``), whose error holds over any number of polls.

The level, 1 - ``confidence``, bounds two mistakes over a whole canary:

- A canary that is worse by what is allowed, or by more, is promoted. It would have to pass each comparison in each
  step, so each of them has the whole level.
- A canary that is within what is allowed is rolled back. One comparison in one step is enough for that, so they share
  the level.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from distillery.core.api.spec.canary import CanaryAnalysis
from distillery.core.contracts.traffic import Counts
from distillery_operator.decide.canary.proportions import Comparison

_MIN_EVENTS = 5  # the first requests of a server that has just started are not independent


class AnalysisPhase(StrEnum):
    """The phases of an analysis, in the words of Argo Rollouts."""

    RUNNING = "Running"
    """Neither of the others is shown yet."""
    SUCCESSFUL = "Successful"
    """The canary is no worse than allowed."""
    FAILED = "Failed"
    """The canary is worse than allowed."""


@dataclass(frozen=True, slots=True)
class AnalysisResult:
    """The result of an analysis.

    Attributes:
        phase: of the analysis.
        message: one sentence; empty while the phase is ``Running``.
    """

    phase: AnalysisPhase
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Metric:
    """One way for a canary to be worse.

    Attributes:
        name: of what goes up or down.
        comparison: of the rates of what must not become more.
        allowed: the difference of the rates that may be.
        down: the message names the complement, which goes down.
    """

    name: str
    comparison: Comparison
    allowed: float
    down: bool = False

    @property
    def direction(self) -> str:
        return "down" if self.down else "up"

    def is_worse(self, level: float) -> bool:
        """Return whether the canary is shown to be worse than allowed."""
        return self.comparison.events >= _MIN_EVENTS and self.comparison.is_above(self.allowed, level)

    def is_acceptable(self, level: float) -> bool:
        """Return whether the canary is shown to be no worse than allowed."""
        return self.comparison.is_below(self.allowed, level)

    def describe_harm(self, level: float) -> str:
        return f"{self.name} are {self.direction} by at least {100 * self.comparison.lower(level):.1f} points"

    def describe_success(self, level: float) -> str:
        most = 100 * max(0.0, self.comparison.upper(level))
        return f"{self.name} are {self.direction} by at most {most:.1f} points"

    def describe_doubt(self, level: float) -> str:
        """Return why there is no verdict, and how much evidence one takes: the power that goes with the level."""
        text = f"{self.name} may be {self.direction} by {100 * self.comparison.upper(level):.1f} points"
        text += f", and {100 * self.allowed:g} are allowed"
        needed = self.comparison.count_needed_trials(self.allowed, level)
        if needed is None:
            return text
        unit = "sessions" if self.down else "requests"
        return f"{text}; equal rates take about {needed:.0f} {unit} of the canary to show"


@dataclass(frozen=True, slots=True)
class StepAnalysis:
    """The analysis of one step of a canary.

    Attributes:
        canary: the canary's counts.
        stable: the stable student's counts.
        bounds: what is allowed, and how much evidence it needs.
        shadow: nobody sees the canary's answers, so no session has an outcome.
        steps: how many steps the canary has, which share the level of a rollback.
    """

    canary: Counts
    stable: Counts
    bounds: CanaryAnalysis
    shadow: bool = False
    steps: int = 1

    def judge(self) -> AnalysisResult:
        """Return the verdict that the counts support."""
        metrics = self._metrics()
        level = 1.0 - self.bounds.confidence
        shared = level / (self.steps * len(metrics))
        for metric in metrics:
            if metric.is_worse(shared):
                return AnalysisResult(AnalysisPhase.FAILED, self._sentence(metric.describe_harm(shared)))
        if self._missing() or not all(metric.is_acceptable(level) for metric in metrics):
            return AnalysisResult(AnalysisPhase.RUNNING)
        success = ", ".join(metric.describe_success(level) for metric in metrics)
        return AnalysisResult(AnalysisPhase.SUCCESSFUL, self._sentence(success))

    def explain(self) -> str:
        """Return why no success is shown, which takes longer than :meth:`judge`; empty if one is shown."""
        if missing := self._missing():
            return missing
        level = 1.0 - self.bounds.confidence
        return next((m.describe_doubt(level) for m in self._metrics() if not m.is_acceptable(level)), "")

    @property
    def _min_sessions(self) -> int:
        return 0 if self.shadow else self.bounds.min_sessions

    def _metrics(self) -> tuple[_Metric, ...]:
        canary, stable, bounds = self.canary, self.stable, self.bounds
        errors = Comparison(canary.errors, canary.requests, stable.errors, stable.requests)
        slow = Comparison(canary.slow, canary.requests, stable.slow, stable.requests)
        metrics = (
            _Metric("errors", errors, bounds.max_error_rate_increase),
            _Metric("slow requests", slow, bounds.max_slow_rate_increase),
        )
        if not self._min_sessions:
            return metrics
        failed, failed_stable = canary.outcomes - canary.successes, stable.outcomes - stable.successes
        failures = Comparison(failed, canary.outcomes, failed_stable, stable.outcomes)
        return (*metrics, _Metric("successes", failures, bounds.max_success_rate_drop, down=True))

    def _missing(self) -> str:
        """Return what is missing before anything but harm can be shown; empty for nothing."""
        if self.canary.requests < self.bounds.min_requests:
            return f"the canary answered {self.canary.requests} of {self.bounds.min_requests} requests"
        reported = min(self.canary.outcomes, self.stable.outcomes)
        if reported < self._min_sessions:
            return f"clients reported outcomes of {reported} of {self._min_sessions} sessions"
        return ""

    def _sentence(self, text: str) -> str:
        """Return a sentence with the counts, the canary's first."""
        canary, stable = self.canary, self.stable
        counts = f"{canary.errors} of {canary.requests} requests, before {stable.errors} of {stable.requests}"
        if canary.slow or stable.slow:
            counts += f"; slow {canary.slow}, before {stable.slow}"
        if self._min_sessions:
            counts += f"; {canary.successes} of {canary.outcomes} sessions, before {stable.successes} of "
            counts += f"{stable.outcomes}"
        return f"{text[0].upper()}{text[1:]} ({counts})."
