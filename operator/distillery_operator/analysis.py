"""Whether a newcomer is shown to be no worse than the incumbent, or worse, by what became of live traffic. Pure.

Requests and sessions of the two are not paired, so shares are compared: by Newcombe's interval of their difference (his
method 10, of two Wilson intervals), which holds for shares near 0, where errors are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from math import sqrt
from statistics import NormalDist
from typing import Any, Self

from distillery.api.promotion import CanaryAnalysis

RUNNING, SUCCESSFUL, FAILED, INCONCLUSIVE, ERROR = "Running", "Successful", "Failed", "Inconclusive", "Error"
"""Argo Rollouts' words."""

_EVERY_LOOK = 0.999  # a look every few seconds, and none of them may be wrong
_LEAST_EVENTS = 5  # of fewer Wilson's interval makes too much: one error of one request would be one too many
_MOST = 2**53  # what a pod says is not trusted; so much JSON holds exactly


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the traffic of one side, as ``distillery_gateway.live`` counts it."""

    requests: int = 0
    errors: int = 0
    outcomes: int = 0
    successes: int = 0

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Self:
        """What a pod says. Raises ValueError, TypeError or KeyError where that can't be."""
        counts = cls(**{field.name: int(said[field.name]) for field in fields(cls)})
        possible = 0 <= counts.errors <= counts.requests and 0 <= counts.successes <= counts.outcomes
        if not possible or max(counts.requests, counts.outcomes) > _MOST:
            raise ValueError(f"no counts: {counts}")
        return counts

    @classmethod
    def sum(cls, several: Iterable[Counts]) -> Self:
        """Of all pods together."""
        parts = [asdict(counts) for counts in several]
        return cls(**{field.name: sum(part[field.name] for part in parts) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look finds.

    Attributes:
        outcome: ``Running`` where neither is shown yet.
        message: one sentence.
    """

    outcome: str
    message: str


def wilson(events: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval of a share; [0, 1] without trials."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = events / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(one: tuple[int, int], other: tuple[int, int], confidence: float) -> tuple[float, float]:
    """Newcombe's interval of the share of ``one`` minus that of ``other``, each given as events and trials."""
    if not one[1] or not other[1]:
        return -1.0, 1.0
    a, b = one[0] / one[1], other[0] / other[1]
    (a_low, a_high), (b_low, b_high) = wilson(*one, confidence), wilson(*other, confidence)
    low = a - b - sqrt((a - a_low) ** 2 + (b_high - b) ** 2)
    return low, a - b + sqrt((a_high - a) ** 2 + (b - b_low) ** 2)


def judge(newcomer: Counts, incumbent: Counts, asked: CanaryAnalysis, *, shadow: bool, over: bool) -> Finding:
    """What the counts of a step show.

    Args:
        newcomer: what became of its traffic.
        incumbent: likewise.
        asked: the bounds, and how much evidence they need.
        shadow: nobody sees the newcomer's answers, so no session tells of them.
        over: the least time of the step has passed: this look may be the last.
    """
    sessions = 0 if shadow else asked.min_sessions
    lacks = _lacks(newcomer, incumbent, asked.min_requests, sessions)
    for confidence in (max(_EVERY_LOOK, asked.confidence), *([asked.confidence] if over and not lacks else [])):
        if worse := _worse(newcomer, incumbent, asked, confidence, sessions=bool(sessions)):
            return Finding(FAILED, worse)
    if lacks:
        return Finding(RUNNING, lacks)
    _, errors = difference(_errors(newcomer), _errors(incumbent), asked.confidence)
    if errors > asked.max_error_increase:
        more = f"errors may be up by {100 * errors:.1f} points, and {100 * asked.max_error_increase:g} are allowed"
        return Finding(RUNNING, more)
    loss = 0.0
    if sessions:
        low, _ = difference(_successes(newcomer), _successes(incumbent), asked.confidence)
        loss = max(0.0, -low)
    if loss > asked.max_success_loss:
        more = f"successes may be down by {100 * loss:.1f} points, and {100 * asked.max_success_loss:g} are allowed"
        return Finding(RUNNING, more)
    shown = f"Errors are up by at most {100 * max(0.0, errors):.1f} points"
    shown += f", successes down by at most {100 * loss:.1f}" if sessions else ""
    return Finding(SUCCESSFUL if over else RUNNING, f"{shown} ({_told(newcomer, incumbent, bool(sessions))}).")


def _lacks(newcomer: Counts, incumbent: Counts, requests: int, sessions: int) -> str:
    if newcomer.requests < requests:
        return f"the newcomer answered {newcomer.requests} of {requests} requests"
    told = min(newcomer.outcomes, incumbent.outcomes)
    return f"clients told of {told} of {sessions} sessions" if told < sessions else ""


def _worse(
    newcomer: Counts, incumbent: Counts, asked: CanaryAnalysis, confidence: float, *, sessions: bool
) -> str | None:
    """What is shown to be worse than allowed, if anything is."""
    if newcomer.errors >= _LEAST_EVENTS:
        low, _ = difference(_errors(newcomer), _errors(incumbent), confidence)
        if low > asked.max_error_increase:
            return f"Errors are up by at least {100 * low:.1f} points ({_told(newcomer, incumbent, sessions)})."
    if sessions and newcomer.outcomes - newcomer.successes >= _LEAST_EVENTS:
        _, high = difference(_successes(newcomer), _successes(incumbent), confidence)
        if high < -asked.max_success_loss:
            return f"Successes are down by at least {-100 * high:.1f} points ({_told(newcomer, incumbent, sessions)})."
    return None


def _errors(counts: Counts) -> tuple[int, int]:
    return counts.errors, counts.requests


def _successes(counts: Counts) -> tuple[int, int]:
    return counts.successes, counts.outcomes


def _told(newcomer: Counts, incumbent: Counts, sessions: bool) -> str:
    """The counts, the newcomer's first."""
    told = f"{newcomer.errors} of {newcomer.requests} requests, before {incumbent.errors} of {incumbent.requests}"
    if sessions:
        told += f"; {newcomer.successes} of {newcomer.outcomes} sessions, before {incumbent.successes} of "
        told += f"{incumbent.outcomes}"
    return told
