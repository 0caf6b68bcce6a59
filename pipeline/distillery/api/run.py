"""The resource a user writes: ``distillery.dev/v1alpha1``, kind ``DistillationRun``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from distillery.api.agent import Agent
from distillery.api.base import Name, Part
from distillery.api.environment import Environment
from distillery.api.evaluation import Evaluation, Rounds
from distillery.api.hints import Hints
from distillery.api.infrastructure import Database, ModelServer, Pods, Stages, Storage
from distillery.api.models import Models
from distillery.api.promotion import Promotion
from distillery.api.rollout import Rollout, Teaching
from distillery.api.training import Training

GROUP = "distillery.dev"
VERSION = "v1alpha1"
KIND = "DistillationRun"

RETRY_ANNOTATION = f"{GROUP}/retry-requested"
"""On a run of a cluster: a new value starts its failed stages again. ``distillery retry`` writes the time."""

RESERVED = ("-canary", "-database")
"""How no run's name may end: what belongs to another run is named so, and the two would take it from each other."""


def _free(name: str) -> str:
    if name.endswith(RESERVED):
        raise PydanticCustomError("reserved", "choose a name that does not end in " + " or ".join(RESERVED))
    return name


class Metadata(Part):
    """The part of Kubernetes' object metadata that Distillery reads; the rest is accepted and left alone."""

    model_config = Part.model_config | {"extra": "ignore"}

    name: Annotated[Name, StringConstraints(max_length=40), AfterValidator(_free)]
    """At most 40 characters, which leaves room for the names derived from it."""

    namespace: Name = "default"
    """Runs of the same name in two namespaces are two runs."""


class Spec(Part):
    """spec is what a run does. All of it can change until a stage other than prepare has started. From then on the
    fields that decide what is learned are immutable. The fields that only decide how can change at any time:
    ``suspend``, ``ttlSecondsAfterFinished``, ``queueName``, ``pods``, ``gpuPods``, ``stages``, ``promotion.round``,
    ``promotion.service``, ``promotion.canary``, ``modelServer.image``, ``modelServer.resources``, those of
    ``modelServer.arguments`` that set parallelism, memory and batching, ``storage.claim.size`` (it can grow),
    ``storage.retain``, ``storage.modelCache``, ``database.resources``, ``database.pods``, ``training.rowTokens``,
    ``training.checkpointSeconds``, all of ``rollout`` but the temperature, and the references to Secrets with keys,
    tokens and credentials. ``environment.tasks.evaluate`` can grow. Stages that run keep the settings they started
    with; later ones, and those that start again, use the new ones.
    """

    environment: Environment = Environment()
    """environment is the environment that the agent acts in."""

    agent: Agent = Agent()
    """How a model becomes an agent."""

    models: Models
    """The language models."""

    rollout: Rollout = Rollout()
    """How episodes are played."""

    hints: Hints = Hints()
    """From failures to hints."""

    teaching: Teaching = Teaching()
    """teaching is how the teacher plays, and which of its episodes are kept."""

    training: Training = Training()
    """How a student is trained."""

    evaluation: Evaluation = Evaluation()
    """How a student is judged."""

    promotion: Promotion = Promotion()
    """promotion is how a student that passes the gate is served."""

    rounds: Rounds = Rounds()
    """rounds is how many rounds the loop runs, and when it stops."""

    storage: Storage = Storage()
    """storage is the store for artifacts."""

    database: Database = Database()
    """database is the store for episodes and hints."""

    stages: Stages = Stages()
    """Time limits, retries and resources per stage."""

    model_server: ModelServer = ModelServer()
    """The servers that play."""

    pods: Pods = Pods()
    """How the pods of all stages, servers and databases are made."""

    gpu_pods: Pods = Pods()
    """gpuPods is what differs from ``pods`` where a pod asks for a GPU, field by field: the node pool and its taints.
    Where a volume keeps the run on one node, all pods that mount it are made so. Taints named after the GPU resource,
    such as ``nvidia.com/gpu``, are tolerated without it."""

    queue_name: Annotated[str, StringConstraints(max_length=63)] | None = None
    """Kueue's local queue that the run's Jobs wait in."""

    suspend: bool = False
    """suspend stops running stages; results are kept, and serving continues. Has no effect without a cluster."""

    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """When the Jobs of a finished run are deleted; the run, its artifacts, its database and its Service stay. Default:
    never. Has no effect without a cluster."""


class DistillationRun(Part):
    """A run of the loop: play, learn from the failures, teach, train, judge, promote."""

    api_version: Literal["distillery.dev/v1alpha1"]
    """``distillery.dev/v1alpha1``."""

    kind: Literal["DistillationRun"]
    """``DistillationRun``."""

    metadata: Metadata
    """Name and namespace."""

    spec: Annotated[Spec, Field()]
    """spec is the specification of the run."""

    @property
    def key(self) -> str:
        """``namespace/name``, unique within a database."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
