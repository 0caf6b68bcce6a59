"""The settings of rollouts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from distillery.core.api.base import Seconds, SpecModel

Temperature = Annotated[float, Field(ge=0.0, le=2.0, allow_inf_nan=False)]


class Rollout(SpecModel):
    """Playing the training tasks. Evaluation shares all but the temperature."""

    temperature: Temperature = 0.0
    """temperature is the sampling temperature. 0 is greedy."""

    concurrency: Annotated[int, Field(ge=1, le=4096)] = 64
    """concurrency is the number of episodes that each worker plays concurrently."""

    workers: Annotated[int, Field(ge=1, le=1000)] = 1
    """workers is the number of pods that share the tasks of a stage. Without a cluster they are processes."""

    environment_processes: Annotated[int, Field(ge=1, le=256)] = 1
    """environmentProcesses is the number of processes per worker that run the environment."""

    lease_seconds: Annotated[int, Field(ge=10, le=86_400)] = 120
    """leaseSeconds is the time after which a task is free again if its worker did not renew the lease. Leases are
    renewed every third of it."""

    request_timeout_seconds: Seconds = 120
    """requestTimeoutSeconds is the time after which a call of the language model is retried."""

    patience_seconds: Seconds = 1800
    """patienceSeconds is how long a stage waits for a server that is away, restarts or has no capacity. It applies to
    language models and ``openenv`` servers. The default is as long as a model server may take to start."""

    step_timeout_seconds: Seconds = 60
    """stepTimeoutSeconds is the time for one step of the environment after which its process is restarted."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """maxAttempts is the number of attempts at an episode that the environment or the worker broke. Then the episode
    counts as a failure."""


class TeacherRollout(SpecModel):
    """Playing the training tasks again, with hints."""

    rollouts_per_task: Annotated[int, Field(ge=1, le=32)] = 1
    """rolloutsPerTask is the number of episodes that the teacher plays per task. Where an arm ``sft*`` is compared, the
    model without hints plays as many. All but its first use ``teacherRollout.temperature``, so the rollout costs as
    much as the teacher's."""

    temperature: Temperature | None = None
    """temperature is the sampling temperature of the teacher. Default: that of ``rollout``."""
