"""The resource a user writes: ``distillery.dev/v1alpha1``, kind ``DistillationRun``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from distillery.core.api.base import Name, SpecModel
from distillery.core.api.spec.agent import Agent
from distillery.core.api.spec.environment import Environment
from distillery.core.api.spec.evaluation import Evaluation, Play, Rounds, Student
from distillery.core.api.spec.hints import Hints
from distillery.core.api.spec.infrastructure import Database, ModelServer, PodTemplate, Stages, Storage
from distillery.core.api.spec.models import Models
from distillery.core.api.spec.promotion import Promotion
from distillery.core.api.spec.rollout import Rollout, TeacherRollout
from distillery.core.api.spec.serving import Serving
from distillery.core.api.spec.training import DataFilter, Training

GROUP = "distillery.dev"
VERSION = "v1alpha1"
KIND = "DistillationRun"

RETRY_ANNOTATION = f"{GROUP}/retry-requested"
"""On a run of a cluster: a new value starts its failed stages again. ``distillery retry`` writes the time."""

RUN_LABEL = f"{GROUP}/run"
STAGE_LABEL = f"{GROUP}/stage"
"""Labels of the objects of a run, and of one of its stages: their names."""

RESERVED = ("-canary", "-database")
"""The endings that no run's name may have: objects of other runs are named so."""


def _check_name(name: str) -> str:
    """Return a name that no object of another run can take."""
    if name.endswith(RESERVED):
        raise PydanticCustomError("reserved", "choose a name that does not end in " + " or ".join(RESERVED))
    return name


class Metadata(SpecModel):
    """The part of Kubernetes' object metadata that Distillery reads; the rest is accepted and left alone."""

    model_config = SpecModel.model_config | {"extra": "ignore"}

    name: Annotated[Name, StringConstraints(max_length=40), AfterValidator(_check_name)]
    """name is the name of the run. At most 40 characters leave room for the names derived from it."""

    namespace: Name = "default"
    """namespace is the namespace of the run. Runs of the same name in two namespaces are two runs."""


class Spec(SpecModel):
    """spec is what a run does. All of it can change until a stage other than prepare has started. From then on the
    fields that decide what is learned are immutable. Other fields can change at any time. They are ``suspend``,
    ``ttlSecondsAfterFinished``, ``queueName``, ``podTemplate``, ``gpuPodTemplate``, ``stages`` and ``serving``. They
    are also ``modelServer.image``, ``modelServer.resources``, and the parallelism, memory and batching of
    ``modelServer.extraArgs``. Of the storage they are ``storage.volumeClaim.size`` (it can grow), ``storage.retain``
    and ``storage.modelCache``; of the database ``database.resources`` and ``database.podTemplate``. Of training they
    are ``training.packedSequenceLength`` and ``training.checkpointIntervalSeconds``. All of ``rollout`` but the
    temperature can change, and so can references to Secrets with keys, tokens and credentials.
    ``environment.tasks.evaluate`` can grow. Stages that run keep the settings that they started with.
    """

    environment: Environment = Environment()
    """environment is the environment that the agent acts in."""

    agent: Agent = Agent()
    """agent is the prompt format that turns a model into an agent, and its budget."""

    models: Models
    """models are the language models that play, teach and read failures."""

    rollout: Rollout = Rollout()
    """rollout is how episodes are played."""

    hints: Hints = Hints()
    """hints is how failures become hints, and hints are retrieved."""

    teacher_rollout: TeacherRollout = TeacherRollout()
    """teacherRollout is how the teacher plays the training tasks with hints."""

    data_filter: DataFilter = DataFilter()
    """dataFilter selects the episodes that students are trained on."""

    training: Training = Training()
    """training is how a student is trained."""

    evaluation: Evaluation = Evaluation()
    """evaluation is how the arms play the held-out tasks."""

    plays: Annotated[tuple[Play, ...], Field(max_length=16)] = ()
    """plays are further ways of playing tasks, in addition to the built-in ones."""

    students: Annotated[tuple[Student, ...], Field(max_length=16)] = ()
    """students are further students, in addition to the built-in ones."""

    promotion: Promotion = Promotion()
    """promotion is when a student replaces the model that the round started with."""

    serving: Serving = Serving()
    """serving is how the promoted student is served. All of it can change at any time."""

    rounds: Rounds = Rounds()
    """rounds is how many rounds the loop runs, and when it stops."""

    storage: Storage = Storage()
    """storage is the store for artifacts."""

    database: Database = Database()
    """database is the store for episodes and hints."""

    stages: Stages = Stages()
    """stages are the time limits, retries and resources of each kind of stage."""

    model_server: ModelServer = ModelServer()
    """modelServer is the vLLM server that plays in stages, and serves the promoted student."""

    pod_template: PodTemplate = PodTemplate()
    """podTemplate is the settings of the pods of all stages, servers and databases."""

    gpu_pod_template: PodTemplate = PodTemplate()
    """gpuPodTemplate is what differs from ``podTemplate`` where a pod asks for a GPU: the node pool and its taints.
    Where a volume keeps the run on one node, all pods that mount it get these settings. Taints named after the GPU
    resource, such as ``nvidia.com/gpu``, are tolerated without it."""

    queue_name: Annotated[str, StringConstraints(max_length=63)] | None = None
    """queueName is Kueue's local queue that the run's Jobs wait in."""

    suspend: bool = False
    """suspend stops the running stages. Results are kept, and serving continues. It has no effect without a cluster."""

    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """ttlSecondsAfterFinished is the time after which the Jobs of a finished run are deleted. The run, its artifacts,
    its database and its Service stay. Default: never. It has no effect without a cluster."""


class DistillationRun(SpecModel):
    """A run of the loop: play, learn from the failures, teach, train, judge, promote."""

    api_version: Literal["distillery.dev/v1alpha1"]
    """apiVersion is ``distillery.dev/v1alpha1``."""

    kind: Literal["DistillationRun"]
    """kind is ``DistillationRun``."""

    metadata: Metadata
    """metadata is the name and the namespace of the run."""

    spec: Annotated[Spec, Field()]
    """spec is the specification of the run."""

    @property
    def key(self) -> str:
        """``namespace/name``, unique within a database."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
