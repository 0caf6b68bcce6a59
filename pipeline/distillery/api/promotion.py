"""When a student is promoted, how it takes over, and how it is served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from distillery.api.base import Part, SecretName
from distillery.api.feedback import Feedback
from distillery.api.infrastructure import Pods, Resources


class GatewayLimits(Part):
    """How much may be asked for."""

    body_bytes: Annotated[int, Field(ge=1024, le=100_000_000)] = 2_000_000
    """The largest body of a request."""

    body_seconds: Annotated[float, Field(ge=1.0, le=600.0)] = 30.0
    """The time that a body may take to arrive."""

    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 8192
    """The most tokens that a request may ask for."""

    choices: Annotated[int, Field(ge=1, le=128)] = 8
    """The most answers that a request may ask for."""

    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """requestsPerMinute is the number of requests per minute that each pod accepts from one key. So n pods accept up to
    n times as many, and a pod that replaces another counts from zero. Default: no limit."""

    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 256
    """concurrency is the number of requests of one key that each pod handles at once. So n pods handle up to n times as
    many."""

    max_connections_per_address: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """maxConnectionsPerAddress is the number of connections that each pod accepts from one client address. An ingress
    is one address: set the number above what all clients behind it need together."""


Parameter = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]*$", max_length=63)]
"""The name of a parameter of OpenAI's API."""


class Gateway(Part):
    """The gateway between clients and the promoted student's servers. Has no effect without a cluster."""

    keys_secret_ref: SecretName | None = None
    """keysSecretRef names a Secret with the API keys: each of its keys names a client, and holds the SHA-256 of the
    bearer token that the client sends (``python -m distillery_gateway.keys`` makes both). Changes take effect by
    themselves. Default: every client that reaches the Service may send requests."""

    limits: GatewayLimits = GatewayLimits()
    """limits apply to every key that has no limits of its own."""

    denied_parameters: Annotated[tuple[Parameter, ...], Field(max_length=32)] | None = None
    """Parameters that are refused. Default: ``seed`` where servers have no GPU, for it ends vLLM there; else none."""


class Service(Part):
    """The Deployment and the Service of the promoted student. Has no effect without a cluster."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Pods that serve. ``kubectl scale drun/NAME`` sets it, and so can a HorizontalPodAutoscaler of the run."""

    scaling: Literal["Fixed", "External"] = "Fixed"
    """scaling is who decides on the number of pods. ``External`` leaves it to an autoscaler of the Deployment that has
    the run's name; ``replicas`` is what it starts with."""

    resources: Resources | None = None
    """resources are the requests and limits of each server. Default: those of ``modelServer``."""

    pods: Pods = Pods()
    """pods is what differs from ``spec.pods`` and ``spec.gpuPods`` for the pods that serve, field by field."""

    max_surge: Annotated[int, Field(ge=0, le=1000)] = 1
    """maxSurge is how many pods more than ``replicas`` there may be while pods are replaced. With 0 a pod ends before
    its successor starts: that needs no spare GPU, and one replica is missing meanwhile."""

    during_rounds: Literal["Serve", "Pause"] = "Serve"
    """duringRounds is what servers do while a round runs. ``Pause`` ends their pods, so that the round gets
    their GPUs. They start again when the run waits for failures, is suspended or has ended."""

    gateway: Gateway = Gateway()
    """Who may ask, and how much."""

    feedback: Feedback | None = None
    """Keep what users play, so that rounds learn from what fails there. Default: nothing is kept."""


class CanaryStep(Part):
    """One step of a canary: its share of the traffic, and how long it has it."""

    weight: Annotated[int, Field(ge=0, le=99)] = 0
    """Per cent of the sessions that the canary answers. Merged weights get servers of their own for it, this share of
    ``service.replicas`` rounded up; a larger share begins once they are available."""

    shadow: bool = False
    """shadow sends the canary a copy of every request instead, and discards its answers."""

    seconds: Annotated[int, Field(ge=10, le=31 * 24 * 3600)]
    """The least time that the step takes."""

    timeout_seconds: Annotated[int, Field(ge=10, le=31 * 24 * 3600)] = 3600
    """The time after which the step is inconclusive; ``inconclusivePolicy`` says what follows."""


Allowance = Annotated[float, Field(gt=0.0, le=1.0)]
"""A difference that may be; none at all can't be shown."""


class CanaryAnalysis(Part):
    """The evidence that a canary needs in each step. Both sides are counted over the step, and no request twice."""

    min_requests: Annotated[int, Field(ge=1, le=1_000_000_000)] = 100
    """minRequests is the number of requests that the canary must have answered."""

    max_error_increase: Allowance = 0.02
    """How much larger, as a fraction of requests, its share of errors may be. An error is a server that failed or had
    no capacity. To show 0.02 for two equal students at a confidence of 0.95 takes 220 requests without any error, and
    about 1000 where one of 100 fails."""

    max_first_token_seconds: Annotated[float, Field(gt=0.0, le=600.0)] = 10.0
    """maxFirstTokenSeconds is the time after which a request without a first token is slow. A request whose client
    leaves after a second or more without a token is slow as well."""

    max_slow_rate_increase: Allowance = 0.1
    """maxSlowRateIncrease is how much larger, as a fraction of requests, the share of slow requests of the canary
    may be."""

    min_sessions: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """minSessions is the number of sessions per side whose outcome clients must have reported at /v1/outcomes. 0
    disables the analysis of outcomes; shadow steps have none."""

    max_success_loss: Allowance = 0.05
    """How much smaller, as a fraction of sessions, its share of successes may be. Where four of five succeed it takes
    about 1900 sessions of either side to show 0.05 for two equal students, and 3400 with a probability of 0.9."""

    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    """confidence is one minus the probability of a mistake over the whole canary, however often the operator looks. A
    student that is worse than allowed is promoted at most so rarely, and one within what is allowed is rolled back at
    most so rarely."""


class Canary(Part):
    """A student's test on live traffic before it answers all requests. Has no effect without a cluster."""

    steps: Annotated[tuple[CanaryStep, ...], Field(min_length=1, max_length=10)]
    """steps are the canary's steps, in this order. A canary that does worse than allowed is rolled back immediately."""

    paused: bool = False
    """Stay at the step, whatever the analysis says."""

    inconclusive_policy: Literal["Pause", "Abort"] = "Pause"
    """inconclusivePolicy is what follows when a step is over without a verdict. ``Pause`` keeps the canary's share
    until you decide; ``Abort`` sends all traffic back to the stable student."""

    analysis: CanaryAnalysis = CanaryAnalysis()
    """analysis is the evidence that the canary needs in each step."""


class Promotion(Part):
    """The serving of a student that passed the gate."""

    policy: Literal["Auto", "Never"] = "Auto"
    """``Auto`` serves a student that passes the gate; ``Never`` only reports the verdict."""

    weights: Literal["auto", "merged", "adapter"] = "auto"
    """weights is how the student is served: as merged weights, or as an adapter of the base model. ``auto`` takes
    merged weights on a CPU, where adapters are several times slower, and an adapter on a GPU."""

    round: Annotated[int, Field(ge=0, le=100)] | None = None
    """round pins the student of this round, whatever the gate's verdict; 0 serves the base model. Later rounds are not
    affected. Default: the student promoted last. Has no effect without a cluster."""

    service: Service = Service()
    """How it is served on a cluster."""

    canary: Canary | None = None
    """canary sets the steps of a new student on live traffic. Default: it replaces the served student immediately."""
