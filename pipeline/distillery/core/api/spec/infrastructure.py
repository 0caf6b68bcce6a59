"""Storage and compute: the places of a run's artifacts and rows, and the resources of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints

from distillery.core.api.base import URL_PATTERN, Name, Seconds, SecretKey, SecretName, SpecModel, Text

Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$", max_length=32)]
"""A Kubernetes quantity such as ``500m``, ``4`` or ``16Gi``; always a string."""

Label = Annotated[str, StringConstraints(pattern=r"^([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=63)]
"""The value of a label."""

ResourceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$", max_length=253)]
"""The name of a resource such as ``nvidia.com/gpu``, or the key of a label."""


class VolumeClaim(SpecModel):
    """A persistent volume claim. Has no effect without a cluster."""

    size: Quantity = "50Gi"
    """size is the size of the volume, which holds games, adapters and, where students are merged, whole models."""

    storage_class_name: Annotated[str, StringConstraints(max_length=253)] | None = None
    """storageClassName is the storage class of the volume. Default: the cluster's default class."""

    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteOnce"
    """accessMode is the access mode of the volume. ``ReadWriteMany`` lets the workers of a stage run on several
    nodes."""


class ModelCache(SpecModel):
    """The volume that keeps the files of base models. Has no effect without a cluster."""

    claim_name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
    """claimName is the name of a persistent volume claim in the run's namespace. Several runs can share it. Pods on
    several nodes need one with the access mode ``ReadWriteMany``."""


class Storage(SpecModel):
    """The store for artifacts: adapters, merged weights, reports, prepared games."""

    uri: (
        Annotated[str, StringConstraints(pattern=r"^(file:///|s3://[a-z0-9])[^\x00-\x20\x7f]*$", max_length=512)] | None
    ) = None
    """uri is ``s3://bucket/prefix``, or without a cluster a folder as ``file:///...``. Default: a volume claim of the
    run, or without a cluster a folder under ``$DISTILLERY_HOME``."""

    endpoint_url: Annotated[
        str | None, StringConstraints(pattern=URL_PATTERN, max_length=512), Field(alias="endpointURL")
    ] = None
    """endpointURL is the URL of the S3 server. Default: that of AWS."""

    credentials_secret_ref: SecretKey | None = None
    """credentialsSecretRef is a file in the format of AWS's shared credentials. Default: the credentials that boto3
    finds, such as the identity of the workload."""

    volume_claim: VolumeClaim = VolumeClaim()
    """volumeClaim is the volume claim that holds the artifacts where ``uri`` is not given."""

    model_cache: ModelCache | None = None
    """modelCache is the volume that pods download base models to. Default: the volume of the artifacts. Where these are
    in S3 there is none: every pod downloads the model again."""

    retain: bool = False
    """retain keeps the volume claim when the run is deleted. Artifacts in S3 are always kept."""


class Resources(SpecModel):
    """The resources that a container requests. Has no effect without a cluster."""

    requests: Annotated[dict[ResourceName, Quantity], Field(max_length=16)] = {}
    """requests are what the scheduler reserves. Default for cpu and memory: the limit, or a small amount."""

    limits: Annotated[dict[ResourceName, Quantity], Field(max_length=16)] = {}
    """limits are enforced, and hold the GPUs. Default for memory: 64Gi for the trainer and model servers, 16Gi for
    other workers, 2Gi for the quick-start database. It is never less than the request."""


def gpus(limits: Mapping[str, str]) -> set[str]:
    """Return the names of GPUs among limits, such as ``nvidia.com/gpu`` or the slice ``nvidia.com/mig-1g.10gb``."""
    return {name for name in limits if "gpu" in name or "/mig-" in name}


def asks_for_gpu(resources: Resources) -> bool:
    """Return whether a GPU is among the limits."""
    return bool(gpus(resources.limits))


class Toleration(SpecModel):
    """As Kubernetes has it."""

    key: Annotated[str, StringConstraints(max_length=317)] | None = None
    """key is the key of the taint. Without it every key matches."""

    operator: Literal["Exists", "Equal"] = "Equal"
    """operator is ``Equal`` for the given value, or ``Exists`` for every value."""

    value: Annotated[str, StringConstraints(max_length=63)] | None = None
    """value is the value of the taint."""

    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """effect is the effect of the taint. Without it every effect matches."""

    toleration_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """tolerationSeconds is the time that ``NoExecute`` is tolerated."""


class PodTemplate(SpecModel):
    """The settings of pods. Has no effect without a cluster."""

    image: Text | None = None
    """image is the image of the pods. Default: the pipeline image of the operator's release."""

    image_pull_secrets: Annotated[tuple[SecretName, ...], Field(max_length=8)] = ()
    """imagePullSecrets are Secrets for the registries of images, as ``[{name: registry}]``."""

    service_account_name: Name | None = None
    """serviceAccountName is the service account of the pods, whose token is never mounted. Default: an account of the
    run's own, without rights."""

    node_selector: Annotated[dict[ResourceName, Label], Field(max_length=16)] = {}
    """nodeSelector is the labels that nodes must have."""

    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] = ()
    """tolerations are the taints that the pods tolerate."""

    affinity: Annotated[dict[str, JsonValue], Field(max_length=3)] = {}
    """affinity is the affinity of the pods, as Kubernetes defines it."""

    runtime_class_name: Annotated[str, StringConstraints(max_length=253)] | None = None
    """runtimeClassName is the runtime class of the pods, such as that of a sandbox like gVisor."""

    priority_class_name: Annotated[str, StringConstraints(max_length=253)] | None = None
    """priorityClassName is the priority class of these pods, which the scheduler uses for preemption."""


class Database(SpecModel):
    """The Postgres with pgvector that keeps episodes, hints and progress."""

    dsn_secret_ref: SecretKey | None = None
    """dsnSecretRef is a connection string of libpq. Default: an embedded server under ``$DISTILLERY_HOME``. On a
    cluster the default is a server of the run's own, which the other fields describe."""

    resources: Resources = Resources()
    """resources are what the run's own server asks for. A change restarts it."""

    size: Quantity = "10Gi"
    """size is the size of its volume. It can't change once the run exists."""

    pod_template: PodTemplate = PodTemplate()
    """podTemplate is what differs from ``spec.podTemplate`` for that server, field by field. It never gets
    ``gpuPodTemplate``."""


class ModelServer(SpecModel):
    """The vLLM server next to the workers of stages that play."""

    image: Text | None = None
    """image is the image of the server. Default: the operator's image for servers with a GPU if ``resources`` ask for
    one, else its image for servers without."""

    resources: Resources = Resources()
    """resources are the requests and limits of a server, with its GPUs. Has no effect without a cluster."""

    extra_args: Annotated[tuple[Text, ...], Field(max_length=32)] = ()
    """extraArgs are further arguments of vLLM, such as ``--tensor-parallel-size=2``. Those that decide where it listens
    and who may send requests, such as ``--host`` and ``--api-key``, are rejected."""


class StageSettings(SpecModel):
    """Settings of one kind of stage."""

    timeout_seconds: Seconds | None = None
    """timeoutSeconds is the time after which the stage fails. Default: no limit."""

    max_retries: Annotated[int, Field(ge=0, le=20)] = 3
    """maxRetries is how often a stage is started again after a failure that its configuration did not cause."""

    resources: Resources = Resources()
    """resources are the requests and limits of the stage's workers. Stages that play also request the GPUs of
    ``modelServer``."""

    pod_template: PodTemplate = PodTemplate()
    """podTemplate is what differs from ``spec.podTemplate`` for this stage's pods, field by field."""


class Stages(SpecModel):
    """Settings per kind of stage."""

    max_parallel: Annotated[int, Field(ge=1, le=64)] = 4
    """maxParallel is the largest number of stages that run concurrently. Without a cluster the machine's processors and
    GPUs decide."""

    prepare: StageSettings = StageSettings()
    """prepare checks the configuration, pins the tasks and generates games."""

    sample: StageSettings = StageSettings()
    """sample chooses the training tasks of a round after the first."""

    rollout: StageSettings = StageSettings()
    """rollout plays the training tasks without hints."""

    hints: StageSettings = StageSettings()
    """hints turns the failures into hints."""

    teach: StageSettings = StageSettings()
    """teach plays the training tasks with hints."""

    train: StageSettings = StageSettings()
    """train trains each of the students."""

    evaluate: StageSettings = StageSettings()
    """evaluate plays the held-out tasks."""

    judge: StageSettings = StageSettings()
    """judge decides whether a candidate is worth confirming, where ``environment.tasks.confirm`` is set."""

    promote: StageSettings = StageSettings()
    """promote judges the candidate, and publishes it if it passes the gate."""
