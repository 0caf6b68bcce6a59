"""A stage as an Indexed Job: workers that share its episodes, each with a model server of its own if it plays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distillery.core.api import Spec
from distillery.core.api.base import SecretKey
from distillery.core.api.spec.infrastructure import PodTemplate, StageSettings, asks_for_gpu
from distillery.core.contracts import serving_history
from distillery.core.contracts.serving_history import ServingEntry
from distillery.core.contracts.stage_config import Server, StageConfig
from distillery.core.contracts.stage_result import CONFIGURATION_ERROR
from distillery.core.model_servers import endpoint_of, external_server, player_name, served_model, serves_merged
from distillery.core.planner import Kind, Model, Stage, StageId
from distillery_operator.manifests import database, placement
from distillery_operator.manifests.pods import (
    ARTIFACTS,
    CONFIG,
    Mount,
    PodPart,
    artifact_folder,
    artifacts,
    common_environment,
    container,
    model_cache,
    operator_peer,
    pipeline_image,
    pod,
    scratch,
    secret_mounts,
    secret_path,
    shared_memory,
    store_uri,
    variables,
)
from distillery_operator.manifests.resources import HELPER, TRAINER, WORKER, complete
from distillery_operator.manifests.vllm import VllmServer, fetch_container, server_container, stage_servers_have_gpu
from distillery_operator.model.names import (
    FETCH_CONTAINER,
    LEARNED_LABEL,
    STAGE_LABEL,
    WORKER_CONTAINER,
    RunRef,
    ingress_policy,
    truncate_name,
)
from distillery_operator.settings import Settings

COMPONENT = "stage"
MIGRATE, HISTORY = "migrate", "history"
"""The values of the stage label for Jobs that are not stages, and have no configuration of their own."""

STATUS_PORT = 8081
_SERVER_PORT = 8000


def job_name(owner: RunRef, stage: StageId, attempt: int) -> str:
    """Return the name of a stage's Job: the same for the same attempt at the same stage of the same run."""
    return truncate_name(f"{owner.name}-{stage}", [str(owner.identity), str(stage), attempt])


def is_superseded(owner: RunRef, job: Mapping[str, Any]) -> bool:
    """Return whether a stage's Job was created for another learned digest. One without a label is older than labels."""
    learned = job["metadata"].get("labels", {}).get(LEARNED_LABEL)
    return learned not in (None, _learned_label(owner))


def _learned_label(owner: RunRef) -> str:
    return owner.identity.digest[:12]


def migration_name(owner: RunRef, settings: Settings) -> str:
    """Return the name of the Job that migrates the database: another image may bring another schema."""
    return truncate_name(
        f"{owner.name}-migrate", [owner.uid, pipeline_image(placement.helper_pods(owner, settings), settings).name]
    )


def history_name(owner: RunRef, history: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the Job that records what was served: another newest entry means another Job."""
    return truncate_name(f"{owner.name}-history", [owner.uid, history[0]])


def stage_config(owner: RunRef, stage: Stage, *, digest: str = "", retry: str = "") -> StageConfig:
    """Return the configuration of a stage.

    Args:
        owner: the run.
        stage: what to do.
        digest: of the adapter of the student that plays.
        retry: the request to retry that the run answered last.
    """
    spec = owner.run.spec
    return StageConfig.of(
        owner.run,
        stage,
        identity=owner.identity,
        server=_server(spec, stage.player, digest),
        player=player_name(stage.player, spec, digest),
        store=store_uri(owner),
        merge=serves_merged(spec, gpu=stage_servers_have_gpu(spec)),
        persist_status=True,
        retry=retry,
        cache=ARTIFACTS,
        work=f"{ARTIFACTS}/work/{stage.id}",
        outcome="/dev/termination-log",
    )


def config_map(owner: RunRef, stage: Stage, name: str, *, digest: str = "", retry: str = "") -> dict[str, Any]:
    """Return the stage's configuration, next to the Job of the same name."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(name, COMPONENT, labels={STAGE_LABEL: str(stage.id)}),
        "immutable": True,
        "data": {"config.json": stage_config(owner, stage, digest=digest, retry=retry).model_dump_json(indent=1)},
    }


def stage_job(owner: RunRef, stage: Stage, name: str, settings: Settings, *, digest: str = "") -> dict[str, Any]:
    """Return the Job. Created once and never applied again: others own parts of it, Kueue its ``suspend``.

    Args:
        owner: the run.
        stage: what to do.
        name: of the Job.
        settings: images.
        digest: of the adapter of the student that plays.
    """
    spec = owner.run.spec
    stage_pod = _StagePod(owner, stage, name, settings, digest)
    template = pod(
        owner,
        sum(stage_pod.parts(), start=PodPart()),
        stage_pod.placement,
        settings,
        # a trainer finishes its step and writes a checkpoint before it ends
        terminationGracePeriodSeconds=120 if stage.id.kind is Kind.TRAIN else 30,
        restartPolicy="Never",
    )
    workers, own = spec.rollout.workers if stage.player else 1, placement.settings_of(spec, stage.id.kind)
    job = _job(owner, name, template, workers=workers, own=own)
    job["metadata"]["labels"][LEARNED_LABEL] = _learned_label(owner)
    return job


@dataclass(frozen=True, slots=True)
class _StagePod:
    """A pod of a stage; the attributes are the arguments of :func:`stage_job`."""

    owner: RunRef
    stage: Stage
    name: str
    settings: Settings
    digest: str

    def parts(self) -> Iterator[PodPart]:
        """Yield the part of the stage itself, and of the server of the model that plays in it."""
        yield self._worker()
        if self._local_player:
            yield self._server(self._local_player)

    @property
    def placement(self) -> PodTemplate:
        """The settings of the pod."""
        spec, kind = self.owner.run.spec, self.stage.id.kind
        player_has_gpu = self._local_player is not None and stage_servers_have_gpu(spec)
        gpu = asks_for_gpu(placement.settings_of(spec, kind).resources) or player_has_gpu
        return placement.stage_pods(self.owner, self.stage.id, self.settings, gpu=gpu)

    def _worker(self) -> PodPart:
        spec, kind = self.owner.run.spec, self.stage.id.kind
        config = Mount({"name": "config", "configMap": {"name": self.name}}, CONFIG, read_only=True)
        mounts = (*self._files, config, *self._credentials)
        environment = {
            **common_environment(spec),
            "DISTILLERY_DATABASE_URL_FILE": secret_path(database.dsn_reference(self.owner)),
            "DISTILLERY_STATUS_PORT": str(STATUS_PORT),
        }
        worker = container(
            WORKER_CONTAINER,
            pipeline_image(self.placement, self.settings),
            ["python", "-m", f"distillery.stages.{kind}", f"{CONFIG}/config.json"],
            mounts=mounts,
            resources=complete(placement.stage_resources(spec, kind), TRAINER if kind is Kind.TRAIN else WORKER),
            env=variables(environment),
            ports=[{"name": "status", "containerPort": STATUS_PORT, "protocol": "TCP"}],
        )
        labels = {STAGE_LABEL: str(self.stage.id), **placement.volume_label(spec)}
        return PodPart(containers=(worker,), mounts=mounts, labels=self.owner.labels(COMPONENT, labels))

    def _server(self, player: Model) -> PodPart:
        owner, spec = self.owner, self.owner.run.spec
        model = served_model(
            player, spec, gpu=stage_servers_have_gpu(spec), artifacts=artifact_folder(owner), digest=self.digest
        )
        server = VllmServer(model, _SERVER_PORT, self._files, spec.model_server.resources)
        mounts, image = (*self._files, *self._credentials), pipeline_image(self.placement, self.settings)
        fetch = fetch_container(owner, model, self.digest, image=image, mounts=mounts)
        return PodPart(init_containers=(fetch, server_container(spec, server, self.settings)), mounts=mounts)

    @property
    def _local_player(self) -> Model | None:
        """The model that a server in this pod serves, if one does."""
        player = self.stage.player
        return None if player is None or endpoint_of(player, self.owner.run.spec) else player

    @property
    def _files(self) -> tuple[Mount, ...]:
        return (artifacts(self.owner), *model_cache(self.owner), scratch(), shared_memory())

    @property
    def _credentials(self) -> tuple[Mount, ...]:
        return tuple(secret_mounts(_secrets(self.owner, self.stage)))


def migration_job(owner: RunRef, settings: Settings) -> dict[str, Any]:
    """Return the Job that brings the database's schema to this version. Idempotent, and safe to run in parallel."""
    program = _DatabaseProgram(MIGRATE, "distillery.database.migrate")
    return _database_job(owner, migration_name(owner, settings), program, settings)


def history_job(owner: RunRef, history: Sequence[Mapping[str, Any]], settings: Settings) -> dict[str, Any]:
    """Return the Job that keeps in the database what was served when. Idempotent.

    Args:
        owner: the run.
        history: ``status.serving.history``.
        settings: images.
    """
    document = serving_history.to_json(ServingEntry.from_status(entry) for entry in history)
    environment = {"DISTILLERY_RUN": owner.run.key, "DISTILLERY_SERVING_HISTORY": document}
    program = _DatabaseProgram(HISTORY, "distillery.database.served", environment)
    return _database_job(owner, history_name(owner, history), program, settings)


def network_policy(owner: RunRef, settings: Settings) -> dict[str, Any]:
    """Return the policy for the stages' port of progress and metrics, in a namespace that lets nobody in, too.

    The operator and the collectors of metrics reach it; everybody does where the settings do not name collectors.
    """
    peers = [operator_peer(settings), *settings.metrics_from] if settings.metrics_from else []
    return ingress_policy(owner, f"{owner.name}-{COMPONENT}", COMPONENT, (peers, STATUS_PORT))


@dataclass(frozen=True, slots=True)
class _DatabaseProgram:
    """A program that needs the database and nothing else.

    Attributes:
        stage: its value of the stage label.
        module: of the pipeline.
        environment: variables that it reads.
    """

    stage: str
    module: str
    environment: Mapping[str, str] = field(default_factory=dict)


def _database_job(owner: RunRef, name: str, program: _DatabaseProgram, settings: Settings) -> dict[str, Any]:
    placed = placement.helper_pods(owner, settings)
    mounts = (scratch(), *secret_mounts([database.dsn_reference(owner)]))
    worker = container(
        WORKER_CONTAINER,
        pipeline_image(placed, settings),
        ["python", "-m", program.module],
        mounts=mounts,
        resources=HELPER,
        env=variables(
            {
                "HOME": "/tmp",  # noqa: S108
                "DISTILLERY_DATABASE_URL_FILE": secret_path(database.dsn_reference(owner)),
                **program.environment,
            }
        ),
    )
    labels = owner.labels(COMPONENT, {STAGE_LABEL: program.stage})
    part = PodPart(containers=(worker,), mounts=mounts, labels=labels)
    template = pod(owner, part, placed, settings, restartPolicy="Never")
    return _job(owner, name, template, workers=1, own=StageSettings())


def _job(owner: RunRef, name: str, template: dict[str, Any], *, workers: int, own: StageSettings) -> dict[str, Any]:
    labels = {STAGE_LABEL: template["metadata"]["labels"][STAGE_LABEL]}
    if queue := owner.run.spec.queue_name:
        labels["kueue.x-k8s.io/queue-name"] = queue
    spec: dict[str, Any] = {
        "completionMode": "Indexed",
        "completions": workers,
        "parallelism": workers,
        # each worker has retries of its own, and the others do the work of one that used them up
        "backoffLimitPerIndex": own.max_retries,
        "maxFailedIndexes": workers - 1,
        "podReplacementPolicy": "Failed",  # never two writers of one checkpoint
        "podFailurePolicy": {
            "rules": [
                *(_fail_on_configuration_error(program["name"]) for program in _programs(template)),
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": template,
    }
    if own.timeout_seconds:
        spec["activeDeadlineSeconds"] = own.timeout_seconds
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": owner.metadata(name, COMPONENT, labels=labels),
        "spec": spec,
    }


def _programs(template: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the containers of a pod that run the pipeline's code, whose exit codes mean something."""
    spec = template["spec"]
    return [
        c
        for c in (*spec["containers"], *spec.get("initContainers", []))
        if c["name"] in (WORKER_CONTAINER, FETCH_CONTAINER)
    ]


def _fail_on_configuration_error(container: str) -> dict[str, Any]:
    """Return the rule that a container's configuration error is not tried again."""
    exit_codes = {"containerName": container, "operator": "In", "values": [CONFIGURATION_ERROR]}
    return {"action": "FailJob", "onExitCodes": exit_codes}


def _server(spec: Spec, player: Model | None, digest: str) -> Server | None:
    if player is None:
        return None
    if external := external_server(player, spec):
        return external
    model = served_model(player, spec, gpu=stage_servers_have_gpu(spec), artifacts=ARTIFACTS, digest=digest)
    return Server(base_url=f"http://127.0.0.1:{_SERVER_PORT}/v1", model=model.name)


def _secrets(owner: RunRef, stage: Stage) -> Sequence[SecretKey]:
    """Return the keys that a stage's pod needs, and no others."""
    spec = owner.run.spec
    references = [database.dsn_reference(owner), spec.storage.credentials_secret_ref]
    models = spec.models
    endpoints = {
        "base": models.student.endpoint,
        "teacher": models.teacher.endpoint if models.teacher else None,
        "extractor": models.extractor.endpoint if models.extractor else None,
    }
    match stage.id.kind:
        case Kind.PREPARE:  # finds out whether all are there
            needed = list(endpoints.values())
        case Kind.HINTS:
            needed = [endpoints["extractor"]]
        case _:
            needed = [endpoint_of(stage.player, spec)] if stage.player else []
    references += [endpoint.api_key_secret_ref for endpoint in needed if endpoint]
    if stage.player or stage.id.kind is Kind.PREPARE:
        references.append(spec.environment.token_secret_ref)
    return [reference for reference in references if reference]
