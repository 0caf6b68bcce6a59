"""How a student is judged, and when it is promoted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from distillery.api.base import Fraction, Part, SecretName
from distillery.api.feedback import Feedback, Trigger
from distillery.api.infrastructure import Resources
from distillery.api.rollout import Temperature

Arm = Literal[
    "base",
    "rag",
    "placebo",
    "sft",
    "distilled",
    "distilled+rag",
    "placebo-distilled",
    "sft-matched",
    "distilled-matched",
    "placebo-distilled-matched",
    "sft-unfiltered",
    "distilled-unfiltered",
    "placebo-distilled-unfiltered",
]
"""One way of playing the held-out tasks.

``base`` is the model that the round started with, ``rag`` the same with retrieved hints, ``placebo`` the same with
random hints of the bank. ``sft`` learnt from base's own successes, ``distilled`` from the teacher's, and
``placebo-distilled`` from a teacher with random hints. ``-matched`` students learnt from equally many episodes;
``-unfiltered`` ones also from the failures.
"""


class Gate(Part):
    """When ``distilled`` replaces the model that the round started with."""

    metric: Literal["success", "score"] = "success"
    """What is compared, task by task."""

    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    """Of the paired test: exact McNemar for success with one seed, else a sign-flip permutation of tasks."""

    min_improvement: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """The least difference, as a fraction, that is worth a promotion."""


class Evaluation(Part):
    """Playing the held-out tasks."""

    arms: Annotated[tuple[Arm, ...], Field(min_length=2, max_length=13)] = (
        "base",
        "rag",
        "placebo",
        "sft",
        "distilled",
        "distilled+rag",
    )
    """The arms that are played. ``base`` and ``distilled`` are what the gate compares."""

    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    """Episodes per task and arm. More than one needs a temperature above 0."""

    temperature: Temperature = 0.0
    """Of sampling. 0 is greedy."""

    gate: Gate = Gate()
    """When the student is promoted."""


class Until(Part):
    """A target: no further round is started once the promoted student reaches it."""

    metric: Literal["success", "score"] = "success"
    """Mean over the held-out tasks."""

    at_least: Fraction
    """The target, as a fraction."""


class Rounds(Part):
    """How often the loop goes round."""

    max: Annotated[int, Field(ge=1, le=100)] = 1
    """The most rounds."""

    until: Until | None = None
    """Stop once this is reached."""

    patience: Annotated[int | None, Field(ge=1, le=100)] = None
    """Stop after so many rounds in a row without a promotion."""

    trigger: Trigger | None = None
    """What each round after the first waits for. Default: nothing, rounds follow one another."""


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
    """Of a key, and in each pod. Default: no limit."""

    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Requests of a key at once, in each pod."""


Parameter = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]*$", max_length=63)]
"""The name of a parameter of OpenAI's API."""


class Gateway(Part):
    """What stands between clients and the promoted student's servers. Has no effect without a cluster."""

    keys_secret_ref: SecretName | None = None
    """A Secret with the API keys: each of its keys names a client, and holds the SHA-256 of what the client sends as a
    bearer token (``python -m distillery_gateway.keys`` makes both). Changes take effect by themselves. Default: whoever
    reaches the Service may ask."""

    limits: GatewayLimits = GatewayLimits()
    """Where a key has none of its own."""

    denied_parameters: Annotated[tuple[Parameter, ...], Field(max_length=32)] | None = None
    """Parameters that are refused. Default: ``seed`` where servers have no GPU, for it ends vLLM there; else none."""


class Service(Part):
    """The Deployment and the Service of the promoted student. Has no effect without a cluster."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Pods that serve."""

    resources: Resources | None = None
    """What each asks for. Default: as ``modelServer``."""

    gateway: Gateway = Gateway()
    """Who may ask, and how much."""

    feedback: Feedback | None = None
    """Keep what users play, so that rounds learn from what fails there. Default: nothing is kept."""


class Promotion(Part):
    """What happens to a winner."""

    policy: Literal["Auto", "Never"] = "Auto"
    """``Auto`` serves a student that passes the gate; ``Never`` only reports the verdict."""

    weights: Literal["auto", "merged", "adapter"] = "auto"
    """How the student is served: as merged weights, or as an adapter beside the base model. ``auto`` takes merged
    weights on a CPU, where adapters are several times slower, and an adapter on a GPU."""

    round: Annotated[int, Field(ge=0, le=100)] | None = None
    """Serve the student of this round, whatever the gate said of it; 0 serves the base model. Rounds go on from where
    they were. Default: the student promoted last. Has no effect without a cluster."""

    service: Service = Service()
    """How it is served on a cluster."""
