"""Where a run keeps its things, and what its stages may use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from distillery.api.base import Part, Seconds, SecretKey

Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$", max_length=32)]
"""A Kubernetes quantity such as ``500m``, ``4`` or ``16Gi``; always a string."""

ResourceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9./]*[a-z0-9])?$", max_length=253)]


class Storage(Part):
    """Where artifacts go: adapters, merged weights, reports, prepared games."""

    uri: Annotated[str, StringConstraints(pattern=r"^file:///[^\s]*$", max_length=512)] | None = None
    """A folder as ``file:///...``. Default: a folder of the run under ``$DISTILLERY_HOME``."""


class Database(Part):
    """The Postgres with pgvector that keeps episodes, hints and progress."""

    dsn_secret_ref: SecretKey | None = None
    """A connection string. Default: an embedded server under ``$DISTILLERY_HOME``."""


class Resources(Part):
    """What a stage's pods ask for. Has no effect without a cluster."""

    requests: Annotated[dict[ResourceName, Quantity], Field(max_length=16)] = {}
    """For the scheduler."""

    limits: Annotated[dict[ResourceName, Quantity], Field(max_length=16)] = {}
    """Enforced; GPUs go here."""


class StageSettings(Part):
    """Settings of one kind of stage."""

    timeout_seconds: Seconds | None = None
    """The stage fails if it takes longer. Default: no limit."""

    max_retries: Annotated[int, Field(ge=0, le=20)] = 3
    """How often a stage is started again after it failed for another reason than its configuration."""

    resources: Resources = Resources()
    """What its pods ask for."""


class Stages(Part):
    """Settings per kind of stage."""

    prepare: StageSettings = StageSettings()
    """Checks the configuration, pins the tasks, generates games."""

    rollout: StageSettings = StageSettings()
    """Plays the training tasks."""

    hints: StageSettings = StageSettings()
    """Turns failures into hints."""

    teach: StageSettings = StageSettings()
    """Plays the training tasks with hints."""

    train: StageSettings = StageSettings()
    """Trains a student."""

    evaluate: StageSettings = StageSettings()
    """Plays the held-out tasks."""

    promote: StageSettings = StageSettings()
    """Judges, and publishes a winner."""
