"""The verdict on a canary: no worse than allowed, worse, or not known yet, by the counts of live traffic. Pure.

Requests and sessions of the two sides are not paired, so rates are compared. The operator looks every few seconds, so
it compares them by a confidence sequence (``proportions``), whose error holds over any number of looks.

The level, 1 - ``confidence``, bounds two mistakes over a whole canary:

- A canary that is worse by what is allowed, or by more, is promoted. It would have to pass each comparison in each
  step, so each of them has the whole level.
- A canary that is within what is allowed is rolled back. One comparison in one step is enough for that, so they share
  the level.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from distillery.core.api.spec.canary import CanaryAnalysis
from distillery_operator.decide.canary.proportions import Comparison

RUNNING, SUCCESSFUL, FAILED, INCONCLUSIVE, ERROR = "Running", "Successful", "Failed", "Inconclusive", "Error"
"""Argo Rollouts' words."""

ABORTED = "Aborted"
"""The user ended the canary, whatever the counts say."""

_MIN_EVENTS = 5  # the first requests of a server that has just started are not independent
_MOST = 2**53  # what a pod says is not trusted; so much JSON holds exactly


@dataclass(frozen=True, slots=True)
class Counts:
    """The traffic counts of one side of a canary, as ``distillery_gateway.routing.traffic`` counts them."""

    requests: int = 0
    errors: int = 0
    outcomes: int = 0
    successes: int = 0
    slow: int = 0

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Self:
        """Return the counts that a pod reports. Raises ValueError, TypeError or KeyError if they are impossible."""
        told = {"slow": 0, **said}  # a gateway of an earlier release counts no slow requests
        counts = cls(**{field.name: int(told[field.name]) for field in fields(cls)})
        possible = 0 <= counts.errors <= counts.requests and 0 <= counts.successes <= counts.outcomes
        possible = possible and 0 <= counts.slow <= counts.requests
        if not possible or max(counts.requests, counts.outcomes) > _MOST:
            raise ValueError(f"no counts: {counts}")
        return counts

    @classmethod
    def sum(cls, several: Iterable[Counts]) -> Self:
        """Return the sum of the counts of all pods."""
        parts = [asdict(counts) for counts in several]
        return cls(**{field.name: sum(part[field.name] for part in parts) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of an analysis.

    Attributes:
        outcome: ``Running`` if neither is shown yet.
        message: one sentence.
    """

    outcome: str
    message: str


@dataclass(frozen=True, slots=True)
class _Metric:
    """One way for a canary to be worse.

    Attributes:
        what: goes up or down.
        comparison: of the rates of what must not become more.
        allowed: the difference of the rates that may be.
        down: the message names the complement, which goes down.
    """

    what: str
    comparison: Comparison
    allowed: float
    down: bool = False

    @property
    def way(self) -> str:
        return "down" if self.down else "up"


def judge(
    newcomer: Counts,
    incumbent: Counts,
    asked: CanaryAnalysis,
    *,
    shadow: bool,
    over: bool,
    steps: int = 1,
    explain: bool = True,
) -> Finding:
    """Return the finding that the counts of a step support.

    Args:
        newcomer: the canary's counts.
        incumbent: the stable student's counts.
        asked: the bounds, and how much evidence they need.
        shadow: nobody sees the canary's answers, so no session has an outcome.
        over: the shortest duration of the step has passed: the step may end.
        steps: how many steps the canary has, which share the level of a rollback.
        explain: say why there is no verdict yet, which takes longer than to find that there is none.
    """
    sessions = 0 if shadow else asked.min_sessions
    metrics = _metrics(newcomer, incumbent, asked, sessions=bool(sessions))
    counts = _told(newcomer, incumbent, bool(sessions))
    level = 1.0 - asked.confidence
    shared = level / (steps * len(metrics))
    for metric in metrics:
        compared = metric.comparison
        if compared.events >= _MIN_EVENTS and compared.is_above(metric.allowed, shared):
            least = 100 * compared.lower(shared)
            shown = f"{metric.what} are {metric.way} by at least {least:.1f} points"
            return Finding(FAILED, f"{_capitalized(shown)} ({counts}).")
    if lacks := _lacks(newcomer, incumbent, asked.min_requests, sessions):
        return Finding(RUNNING, lacks)
    for metric in metrics:
        if not metric.comparison.is_below(metric.allowed, level):
            return Finding(RUNNING, _undecided(metric, level) if explain else "")
    shown = ", ".join(
        f"{m.what} are {m.way} by at most {100 * max(0.0, m.comparison.upper(level)):.1f} points" for m in metrics
    )
    return Finding(SUCCESSFUL if over else RUNNING, f"{_capitalized(shown)} ({counts}).")


def _metrics(newcomer: Counts, incumbent: Counts, asked: CanaryAnalysis, *, sessions: bool) -> tuple[_Metric, ...]:
    errors = Comparison(newcomer.errors, newcomer.requests, incumbent.errors, incumbent.requests)
    slow = Comparison(newcomer.slow, newcomer.requests, incumbent.slow, incumbent.requests)
    metrics = (
        _Metric("errors", errors, asked.max_error_rate_increase),
        _Metric("slow requests", slow, asked.max_slow_rate_increase),
    )
    if not sessions:
        return metrics
    failed, failed_before = newcomer.outcomes - newcomer.successes, incumbent.outcomes - incumbent.successes
    failures = Comparison(failed, newcomer.outcomes, failed_before, incumbent.outcomes)
    return (*metrics, _Metric("successes", failures, asked.max_success_rate_drop, down=True))


def _undecided(metric: _Metric, level: float) -> str:
    """Why there is no verdict, and how much evidence one takes: the power that goes with the level."""
    compared = metric.comparison
    text = f"{metric.what} may be {metric.way} by {100 * compared.upper(level):.1f} points"
    text += f", and {100 * metric.allowed:g} are allowed"
    needed = compared.needed(metric.allowed, level)
    if needed is None:
        return text
    unit = "sessions" if metric.down else "requests"
    return f"{text}; equal rates take about {needed:.0f} {unit} of the canary to show"


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


def _lacks(newcomer: Counts, incumbent: Counts, requests: int, sessions: int) -> str:
    if newcomer.requests < requests:
        return f"the canary answered {newcomer.requests} of {requests} requests"
    told = min(newcomer.outcomes, incumbent.outcomes)
    return f"clients reported outcomes of {told} of {sessions} sessions" if told < sessions else ""


def _told(newcomer: Counts, incumbent: Counts, sessions: bool) -> str:
    """The counts, the newcomer's first."""
    told = f"{newcomer.errors} of {newcomer.requests} requests, before {incumbent.errors} of {incumbent.requests}"
    if newcomer.slow or incumbent.slow:
        told += f"; slow {newcomer.slow}, before {incumbent.slow}"
    if sessions:
        told += f"; {newcomer.successes} of {newcomer.outcomes} sessions, before {incumbent.successes} of "
        told += f"{incumbent.outcomes}"
    return told
