"""How episodes are played."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from distillery.api.base import Fraction, Part, Seconds

Temperature = Annotated[float, Field(ge=0.0, le=2.0, allow_inf_nan=False)]


class Rollout(Part):
    """Playing the training tasks. Evaluation shares all but the temperature."""

    temperature: Temperature = 0.0
    """Of sampling. 0 is greedy."""

    concurrency: Annotated[int, Field(ge=1, le=4096)] = 64
    """Episodes in flight per worker."""

    workers: Annotated[int, Field(ge=1, le=1000)] = 1
    """Workers (pods) that share the tasks of a stage. Without a cluster they are processes."""

    environment_processes: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes per worker that run the environment."""

    lease_seconds: Annotated[int, Field(ge=10, le=86_400)] = 120
    """A worker that doesn't renew its lease on a task for so long loses the task to another. Leases are renewed every
    third of it."""

    request_timeout_seconds: Seconds = 120
    """How long one call of the language model may take before it is tried again."""

    patience_seconds: Seconds = 1800
    """patienceSeconds is how long a stage waits for a server that is away, restarts or has no room: a language model's,
    or an ``openenv`` server. The default is as long as a model server may take to start."""

    step_timeout_seconds: Seconds = 60
    """How long the environment may take for one step before its process is restarted."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Attempts at an episode that the environment or the worker broke; after that it counts as a failure."""


class Teaching(Part):
    """Replaying the training tasks with hints, and what is kept of it."""

    attempts: Annotated[int, Field(ge=1, le=32)] = 1
    """Episodes the teacher plays per task. Where a student learns from own successes (the arms ``sft*``), the model
    without hints plays as many, all but the first at ``teaching.temperature``: the rollout then costs as much as the
    teacher's play."""

    temperature: Temperature | None = None
    """Default: that of ``rollout``."""

    max_invalid_actions: Annotated[int, Field(ge=0, le=1000)] = 1
    """maxInvalidActions is the largest number of refused actions in a success that is trained on."""

    min_score: Fraction = 1.0
    """minScore is the lowest score of an episode that is trained on. 1 keeps successes only."""
