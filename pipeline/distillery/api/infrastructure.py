"""Where a run keeps its things, and what its stages may use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from distillery.api.base import Part, Seconds, SecretKey

Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$", max_length=32)]
"""A Kubernetes quantity such as ``500m``, ``4`` or ``16Gi``; always a string."""

ResourceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9./]*[a-z0-9])?$", max_length=253)]


class Claim(Part):
    """A persistent volume claim. Has no effect without a cluster."""

    size: Quantity = "50Gi"
    """Room for games, adapters and, where students are merged, whole models."""

    storage_class_name: Annotated[str, StringConstraints(max_length=253)] | None = None
    """Default: the cluster's default class."""

    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteOnce"
    """``ReadWriteMany`` lets the workers of a stage run on several nodes."""


class Storage(Part):
    """Where artifacts go: adapters, merged weights, reports, prepared games."""

    uri: Annotated[str, StringConstraints(pattern=r"^(file:///|s3://[a-z0-9])[^\s]*$", max_length=512)] | None = None
    """``s3://bucket/prefix``, or without a cluster a folder as ``file:///...``. Default: a volume claim of the run, or
    without a cluster a folder under ``$DISTILLERY_HOME``."""

    endpoint_url: Annotated[
        str | None, StringConstraints(pattern=r"^https?://[^\s?#]+$", max_length=512), Field(alias="endpointURL")
    ] = None
    """The S3 server's URL; default: AWS's."""

    credentials_secret_ref: SecretKey | None = None
    """A file in the format of AWS's shared credentials. Default: what boto3 finds, e.g. the workload's identity."""

    claim: Claim = Claim()
    """The volume claim that holds the artifacts where ``uri`` is not given."""

    retain: bool = False
    """Whether the claim outlives the run's deletion. What lies in S3 always does."""


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
