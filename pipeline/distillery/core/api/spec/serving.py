"""The serving of a promoted student on a cluster: its pods, its gateway, and who may send requests."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from distillery.core.api.base import SecretName, SpecModel
from distillery.core.api.spec.canary import Canary
from distillery.core.api.spec.feedback import Feedback
from distillery.core.api.spec.infrastructure import PodTemplate, Resources


class GatewayLimits(SpecModel):
    """The limits of requests, per request, key and client address."""

    max_body_bytes: Annotated[int, Field(ge=1024, le=100_000_000)] = 2_000_000
    """maxBodyBytes is the size of the largest accepted request body."""

    body_timeout_seconds: Annotated[float, Field(ge=1.0, le=600.0)] = 30.0
    """bodyTimeoutSeconds is the time within which a request body must arrive."""

    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 8192
    """maxTokens is the largest number of tokens that a request may ask for."""

    max_choices: Annotated[int, Field(ge=1, le=128)] = 8
    """maxChoices is the largest number of choices (``n``) that a request may ask for."""

    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """requestsPerMinute is the number of requests per minute that each pod accepts from one key. So n pods accept up to
    n times as many, and a pod that replaces another counts from zero. Default: no limit."""

    max_concurrent_requests: Annotated[int, Field(ge=1, le=10_000)] = 256
    """maxConcurrentRequests is the number of requests of one key that each pod handles concurrently. So n pods handle
    up to n times as many."""

    max_connections_per_address: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """maxConnectionsPerAddress is the number of connections that each pod accepts from one client address. An ingress
    is one address: set the number above what all clients behind it need together."""


Parameter = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]*$", max_length=63)]
"""The name of a parameter of OpenAI's API."""


class Gateway(SpecModel):
    """The gateway between clients and the promoted student's servers. Has no effect without a cluster."""

    api_keys_secret_ref: SecretName | None = None
    """apiKeysSecretRef names a Secret with the API keys. Each key of the Secret names a client. Its value is the
    SHA-256 of the bearer token that the client sends. ``python -m distillery_gateway.auth.api_keys`` makes both, and
    changes take effect without a restart. Default: every client that reaches the Service may send requests."""

    limits: GatewayLimits = GatewayLimits()
    """limits apply to every key that has no limits of its own."""

    denied_parameters: Annotated[tuple[Parameter, ...], Field(max_length=32)] | None = None
    """deniedParameters are parameters of OpenAI's API that the gateway rejects. Default: ``seed`` where servers have no
    GPU, because vLLM ends on it there; else none."""


class Serving(SpecModel):
    """The Deployment and the Service of the promoted student. Has no effect without a cluster."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """replicas is the number of pods that serve. ``kubectl scale drun/NAME`` and a HorizontalPodAutoscaler of the run
    set this field."""

    scaling: Literal["Fixed", "External"] = "Fixed"
    """scaling decides who sets the number of pods. ``External`` leaves it to an autoscaler of the Deployment that has
    the run's name; it starts with ``replicas``."""

    resources: Resources | None = None
    """resources are the requests and limits of each server. Default: those of ``modelServer``."""

    pod_template: PodTemplate = PodTemplate()
    """podTemplate is what differs from ``spec.podTemplate`` and ``spec.gpuPodTemplate`` for the pods that serve, field
    by field."""

    max_surge: Annotated[int, Field(ge=0, le=1000)] = 1
    """maxSurge is how many pods more than ``replicas`` there may be while pods are replaced. With 0 a pod ends before
    its successor starts: that needs no spare GPU, and one replica is missing meanwhile."""

    during_rounds: Literal["Serve", "Pause"] = "Serve"
    """duringRounds is what servers do while a round runs. ``Pause`` ends their pods, so that the round gets their GPUs.
    They start again when the run waits for failures, is suspended or has ended."""

    pinned_round: Annotated[int, Field(ge=0, le=100)] | None = None
    """pinnedRound serves the student of this round, whatever the gate's verdict; 0 serves the base model. Later rounds
    are not affected. Default: the student promoted last."""

    canary: Canary | None = None
    """canary sets the steps of a new student on live traffic. Default: it replaces the served student immediately."""

    gateway: Gateway = Gateway()
    """gateway is the proxy that decides who may send requests, and how many."""

    feedback: Feedback | None = None
    """feedback keeps the sessions of users, so that rounds learn from their failures. Default: nothing is kept."""
