"""Storage and compute: the places of a run's artifacts and rows, and the resources of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints

from distillery.api.base import URL_PATTERN, Name, Part, Seconds, SecretKey, SecretName, Text

Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$", max_length=32)]
"""A Kubernetes quantity such as ``500m``, ``4`` or ``16Gi``; always a string."""

Label = Annotated[str, StringConstraints(pattern=r"^([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=63)]
"""The value of a label."""

ResourceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$", max_length=253)]
"""The name of a resource such as ``nvidia.com/gpu``, or the key of a label."""


class Claim(Part):
    """A persistent volume claim. Has no effect without a cluster."""

    size: Quantity = "50Gi"
    """Room for games, adapters and, where students are merged, whole models."""

    storage_class_name: Annotated[str, StringConstraints(max_length=253)] | None = None
    """Default: the cluster's default class."""

    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteOnce"
    """``ReadWriteMany`` lets the workers of a stage run on several nodes."""


class ModelCache(Part):
    """The volume that keeps the files of base models. Has no effect without a cluster."""

    claim_name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
    """claimName is the name of a persistent volume claim in the run's namespace. Several runs can share it. Pods on
    several nodes need one with the access mode ``ReadWriteMany``."""


class Storage(Part):
    """The store for artifacts: adapters, merged weights, reports, prepared games."""

    uri: (
        Annotated[str, StringConstraints(pattern=r"^(file:///|s3://[a-z0-9])[^\x00-\x20\x7f]*$", max_length=512)] | None
    ) = None
    """``s3://bucket/prefix``, or without a cluster a folder as ``file:///...``. Default: a volume claim of the run, or
    without a cluster a folder under ``$DISTILLERY_HOME``."""

    endpoint_url: Annotated[
        str | None, StringConstraints(pattern=URL_PATTERN, max_length=512), Field(alias="endpointURL")
    ] = None
    """The S3 server's URL; default: AWS's."""

    credentials_secret_ref: SecretKey | None = None
    """A file in the format of AWS's shared credentials. Default: what boto3 finds, e.g. the workload's identity."""

    claim: Claim = Claim()
    """The volume claim that holds the artifacts where ``uri`` is not given."""

    model_cache: ModelCache | None = None
    """modelCache is the volume that pods download base models to. Default: the volume of the artifacts, or where these
    are in S3 none: every pod downloads the model again."""

    retain: bool = False
    """retain keeps the volume claim when the run is deleted. Artifacts in S3 are always kept."""


class Resources(Part):
    """The resources that a container requests. Has no effect without a cluster."""

    requests: Annotated[dict[ResourceName, Quantity], Field(max_length=16)] = {}
    """requests are what the scheduler reserves. Default for cpu and memory: the limit, or a small amount."""

    limits: Annotated[dict[ResourceName, Quantity], Field(max_length=16)] = {}
    """limits are enforced; GPUs go here. Default for memory: 64Gi for the trainer and for model servers, 16Gi for
    other workers, 2Gi for the quick-start database, and never less than the request."""


def gpus(limits: Mapping[str, str]) -> set[str]:
    """Return the names of GPUs among limits, such as ``nvidia.com/gpu`` or the slice ``nvidia.com/mig-1g.10gb``."""
    return {name for name in limits if "gpu" in name or "/mig-" in name}


def asks_for_gpu(resources: Resources) -> bool:
    """Return whether a GPU is among the limits."""
    return bool(gpus(resources.limits))


class Toleration(Part):
    """As Kubernetes has it."""

    key: Annotated[str, StringConstraints(max_length=317)] | None = None
    """Of the taint; none matches every key."""

    operator: Literal["Exists", "Equal"] = "Equal"
    """``Exists`` matches every value."""

    value: Annotated[str, StringConstraints(max_length=63)] | None = None
    """Of the taint."""

    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Of the taint; none matches every effect."""

    toleration_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """How long ``NoExecute`` is tolerated."""


class Pods(Part):
    """How pods are made. Has no effect without a cluster."""

    image: Text | None = None
    """Default: the operator's pipeline image of its own version."""

    image_pull_secrets: Annotated[tuple[SecretName, ...], Field(max_length=8)] = ()
    """imagePullSecrets are Secrets for the registries of images, as ``[{name: registry}]``."""

    service_account_name: Name | None = None
    """Default: an account of the run's own, without rights. Its token is never mounted."""

    node_selector: Annotated[dict[ResourceName, Label], Field(max_length=16)] = {}
    """Labels that nodes must have."""

    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] = ()
    """Taints that are tolerated."""

    affinity: Annotated[dict[str, JsonValue], Field(max_length=3)] = {}
    """As Kubernetes has it."""

    runtime_class_name: Annotated[str, StringConstraints(max_length=253)] | None = None
    """For instance of a sandbox such as gVisor."""

    priority_class_name: Annotated[str, StringConstraints(max_length=253)] | None = None
    """priorityClassName is the priority class of these pods, which the scheduler uses for preemption."""


class Database(Part):
    """The Postgres with pgvector that keeps episodes, hints and progress."""

    dsn_secret_ref: SecretKey | None = None
    """A connection string. Default: an embedded server under ``$DISTILLERY_HOME``, and on a cluster a server of the
    run's own, which the other fields are about."""

    resources: Resources = Resources()
    """resources are what the run's own server asks for. A change restarts it."""

    size: Quantity = "10Gi"
    """size is the size of its volume. It can't change once the run exists."""

    pods: Pods = Pods()
    """pods is what differs from ``spec.pods`` for that server, field by field. It never gets ``gpuPods``."""


class ModelServer(Part):
    """The vLLM server next to the workers of stages that play."""

    image: Text | None = None
    """Default: the operator's image for servers with a GPU or without, by whether ``resources`` ask for one."""

    resources: Resources = Resources()
    """resources are the requests and limits of a server, with its GPUs. Has no effect without a cluster."""

    arguments: Annotated[tuple[Text, ...], Field(max_length=32)] = ()
    """More of vLLM's arguments, such as ``--tensor-parallel-size=2``. Those that decide where it listens and whom it
    answers, such as ``--host`` and ``--api-key``, are refused."""


class StageSettings(Part):
    """Settings of one kind of stage."""

    timeout_seconds: Seconds | None = None
    """The stage fails if it takes longer. Default: no limit."""

    max_retries: Annotated[int, Field(ge=0, le=20)] = 3
    """How often a stage is started again after it failed for another reason than its configuration."""

    resources: Resources = Resources()
    """resources are the requests and limits of the stage's workers. Stages that play also request the GPUs of
    ``modelServer``."""

    pods: Pods = Pods()
    """pods are the settings of this stage's pods that differ from ``spec.pods``, field by field."""


class Stages(Part):
    """Settings per kind of stage."""

    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    """The most stages that run at once. Without a cluster the machine's processors and GPUs decide."""

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
