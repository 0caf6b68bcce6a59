"""The canary: a new student's test on live traffic."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distillery.core.api.base import SpecModel


class CanaryStep(SpecModel):
    """One step of a canary: its share of the traffic, and the time that it takes."""

    weight: Annotated[int, Field(ge=0, le=99)] = 0
    """weight is the percentage of the sessions that the canary answers. A canary with merged weights gets servers of
    its own: this share of ``serving.replicas``, rounded up. A larger share starts once they are available."""

    shadow: bool = False
    """shadow sends the canary a copy of every request instead, and discards its responses."""

    min_duration_seconds: Annotated[int, Field(ge=10, le=31 * 24 * 3600)]
    """minDurationSeconds is the shortest time that the step takes."""

    progress_deadline_seconds: Annotated[int, Field(ge=10, le=31 * 24 * 3600)] = 3600
    """progressDeadlineSeconds is the time after which the step is inconclusive. ``inconclusivePolicy`` decides what
    follows."""


Allowance = Annotated[float, Field(gt=0.0, le=1.0)]
"""A difference that is allowed. It can't be 0: no number of requests shows that there is no difference at all."""


class CanaryAnalysis(SpecModel):
    """The evidence that a canary needs in each step. Both sides are counted over the step, and no request twice."""

    min_requests: Annotated[int, Field(ge=1, le=1_000_000_000)] = 100
    """minRequests is the number of requests that the canary must have answered."""

    max_error_rate_increase: Allowance = 0.02
    """maxErrorRateIncrease is how much larger the canary's error rate may be, as a fraction of requests. An error is a
    server that failed or had no capacity. To show 0.02 for two equal students at a confidence of 0.95 takes 220
    requests without errors. It takes about 1000 where one request of 100 fails."""

    max_first_token_seconds: Annotated[float, Field(gt=0.0, le=600.0)] = 10.0
    """maxFirstTokenSeconds is the time after which a request without a first token is slow. A request whose client
    leaves after a second or more without a token is slow as well."""

    max_slow_rate_increase: Allowance = 0.1
    """maxSlowRateIncrease is how much larger the canary's share of slow requests may be, as a fraction of requests."""

    min_sessions: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """minSessions is the number of sessions per side whose outcome clients must have reported at /v1/outcomes. 0
    disables the analysis of outcomes; shadow steps have none."""

    max_success_rate_drop: Allowance = 0.05
    """maxSuccessRateDrop is how much smaller the canary's success rate may be, as a fraction of sessions. Where four of
    five sessions succeed, it takes about 1900 sessions per side to show 0.05 for two equal students. It takes 3400 to
    show it with a probability of 0.9."""

    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    """confidence is one minus the probability of a mistake over the whole canary, however often the operator looks. A
    student that is worse than allowed is promoted at most that rarely. A student that is as good as allowed is rolled
    back at most that rarely."""


class Canary(SpecModel):
    """A student's test on live traffic before it answers all requests. Has no effect without a cluster."""

    steps: Annotated[tuple[CanaryStep, ...], Field(min_length=1, max_length=10)]
    """steps are the canary's steps, in this order. A canary that does worse than allowed is rolled back immediately."""

    paused: bool = False
    """paused keeps the canary at its step, whatever the analysis says."""

    inconclusive_policy: Literal["Pause", "Abort"] = "Pause"
    """inconclusivePolicy is what follows when a step is over without a verdict. ``Pause`` keeps the canary's share
    until you decide; ``Abort`` sends all traffic back to the stable student."""

    analysis: CanaryAnalysis = CanaryAnalysis()
    """analysis is the evidence that the canary needs in each step."""
