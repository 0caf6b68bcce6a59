"""A stage as an Indexed Job: workers that share its episodes, each with a model server of its own if it plays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from distillery.core.api import Spec
from distillery.core.api.base import SecretKey
from distillery.core.api.spec.infrastructure import StageSettings, asks_for_gpu
from distillery.core.api.spec.models import Endpoint
from distillery.core.contracts.stage_config import Server, StageConfig, endpoint_field
from distillery.core.contracts.stage_result import CONFIGURATION_ERROR
from distillery.core.planner import Kind, Model, Stage, StageId
from distillery.core.served_models import merges, served
from distillery_operator.manifests import database, placement
from distillery_operator.manifests.names import (
    FETCH_CONTAINER,
    LEARNED_LABEL,
    STAGE_LABEL,
    WORKER_CONTAINER,
    RunRef,
    fitted,
    ingress_policy,
)
from distillery_operator.manifests.pods import (
    ARTIFACTS,
    CONFIG,
    Mount,
    artifact_folder,
    artifacts,
    common_environment,
    container,
    model_cache,
    operator_peer,
    pipeline_image,
    pod,
    scratch,
    secret_path,
    secrets,
    shared_memory,
    store_uri,
)
from distillery_operator.manifests.resources import HELPER, TRAINER, WORKER, complete
from distillery_operator.manifests.servers import fetch, has_gpu, sidecar
from distillery_operator.settings import Settings

COMPONENT = "stage"
MIGRATE, HISTORY = "migrate", "history"
"""The values of the stage label for Jobs that are not stages, and have no configuration of their own."""

STATUS_PORT = 8081
_SERVER_PORT = 8000


def job_name(owner: RunRef, stage: StageId, attempt: int) -> str:
    """Return the name of a stage's Job: the same for the same attempt at the same stage of the same run."""
    return fitted(f"{owner.name}-{stage}", [str(owner.identity), str(stage), attempt])


def is_superseded(owner: RunRef, job: Mapping[str, Any]) -> bool:
    """Return whether a stage's Job was created for another learned digest. One without a label is older than labels."""
    learned = job["metadata"].get("labels", {}).get(LEARNED_LABEL)
    return learned not in (None, _learned_label(owner))


def _learned_label(owner: RunRef) -> str:
    return owner.identity.digest[:12]


def migration_name(owner: RunRef, settings: Settings) -> str:
    """Return the name of the Job that migrates the database: another image may bring another schema."""
    return fitted(
        f"{owner.name}-migrate", [owner.uid, pipeline_image(placement.helper_pods(owner, settings), settings)]
    )


def history_name(owner: RunRef, history: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the Job that records what was served: another newest entry means another Job."""
    return fitted(f"{owner.name}-history", [owner.uid, history[0]])


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
        store=store_uri(owner),
        merge=merges(spec, gpu=has_gpu(spec)),
        records_itself=True,
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
    own = placement.settings_of(spec, stage.id.kind)
    served_here = stage.player is not None and not _endpoint(spec, stage.player)
    gpu = asks_for_gpu(own.resources) or (served_here and has_gpu(spec))
    pods = placement.stage_pods(owner, stage.id, settings, gpu=gpu)
    config = Mount({"name": "config", "configMap": {"name": name}}, CONFIG, read_only=True)
    credentials = secrets(_secrets(owner, stage))
    mounts = [artifacts(owner), *model_cache(owner), scratch(), shared_memory(), config, *credentials]
    image = pipeline_image(pods, settings)
    worker = container(
        WORKER_CONTAINER,
        image,
        ["python", "-m", f"distillery.stages.{stage.id.kind}", f"{CONFIG}/config.json"],
        mounts=mounts,
        pull_policy=settings.image_pull_policy,
        environment={
            **common_environment(spec),
            "DISTILLERY_DATABASE_URL_FILE": secret_path(database.dsn_reference(owner)),
            "DISTILLERY_STATUS_PORT": str(STATUS_PORT),
        },
        resources=complete(
            placement.stage_resources(spec, stage.id.kind), TRAINER if stage.id.kind is Kind.TRAIN else WORKER
        ),
        ports=[{"name": "status", "containerPort": STATUS_PORT, "protocol": "TCP"}],
    )
    server_files = [artifacts(owner), *model_cache(owner), scratch(), shared_memory()]
    before: list[dict[str, Any]] = []
    if stage.player and served_here:
        model = served(stage.player, spec, gpu=has_gpu(spec), artifacts=artifact_folder(owner), digest=digest)
        mounts_of_fetch = [*server_files, *credentials]
        before = [
            fetch(owner, model, digest, image=image, mounts=mounts_of_fetch, settings=settings),
            sidecar(owner, model, port=_SERVER_PORT, mounts=server_files, settings=settings),
        ]
    # a trainer finishes its step and writes a checkpoint before it ends
    grace = 120 if stage.id.kind is Kind.TRAIN else 30
    template = pod(
        owner,
        owner.labels(COMPONENT, {STAGE_LABEL: str(stage.id), **placement.volume_label(spec)}),
        pods,
        settings,
        containers=[worker],
        init_containers=before,
        mounts=mounts,
        terminationGracePeriodSeconds=grace,
        restartPolicy="Never",
    )
    workers = spec.rollout.workers if stage.player else 1
    made = _job(owner, name, str(stage.id), template, workers=workers, own=own)
    made["metadata"]["labels"][LEARNED_LABEL] = _learned_label(owner)
    return made


def migration_job(owner: RunRef, settings: Settings) -> dict[str, Any]:
    """Return the Job that brings the database's schema to this version. Idempotent, and safe to run in parallel."""
    return _database_job(owner, migration_name(owner, settings), MIGRATE, "distillery.database.migrate", {}, settings)


def history_job(owner: RunRef, history: Sequence[Mapping[str, Any]], settings: Settings) -> dict[str, Any]:
    """Return the Job that keeps in the database what was served when. Idempotent.

    Args:
        owner: the run.
        history: ``status.serving.history``.
        settings: images.
    """
    told = {"DISTILLERY_RUN": owner.run.key, "DISTILLERY_SERVING_HISTORY": json.dumps(list(history))}
    return _database_job(owner, history_name(owner, history), HISTORY, "distillery.database.served", told, settings)


def network_policy(owner: RunRef, settings: Settings) -> dict[str, Any]:
    """Return the policy for the stages' port of progress and metrics, in a namespace that lets nobody in, too.

    The operator and the collectors of metrics reach it; everybody does where the settings do not name collectors.
    """
    peers = [operator_peer(settings), *settings.metrics_from] if settings.metrics_from else []
    return ingress_policy(owner, f"{owner.name}-{COMPONENT}", COMPONENT, (peers, STATUS_PORT))


def _database_job(
    owner: RunRef, name: str, stage: str, module: str, told: Mapping[str, str], settings: Settings
) -> dict[str, Any]:
    """A Job that needs the database and nothing else."""
    pods = placement.helper_pods(owner, settings)
    mounts = [scratch(), *secrets([database.dsn_reference(owner)])]
    worker = container(
        WORKER_CONTAINER,
        pipeline_image(pods, settings),
        ["python", "-m", module],
        mounts=mounts,
        pull_policy=settings.image_pull_policy,
        environment={
            "HOME": "/tmp",  # noqa: S108
            "DISTILLERY_DATABASE_URL_FILE": secret_path(database.dsn_reference(owner)),
            **told,
        },
        resources=HELPER,
    )
    template = pod(
        owner,
        owner.labels(COMPONENT, {STAGE_LABEL: stage}),
        pods,
        settings,
        containers=[worker],
        mounts=mounts,
        restartPolicy="Never",
    )
    return _job(owner, name, stage, template, workers=1, own=StageSettings())


def _job(
    owner: RunRef, name: str, stage: str, template: dict[str, Any], *, workers: int, own: StageSettings
) -> dict[str, Any]:
    spec = owner.run.spec
    labels = {STAGE_LABEL: stage}
    if spec.queue_name:
        labels["kueue.x-k8s.io/queue-name"] = spec.queue_name
    made: dict[str, Any] = {
        "completionMode": "Indexed",
        "completions": workers,
        "parallelism": workers,
        # each worker has retries of its own, and the others do the work of one that used them up
        "backoffLimitPerIndex": own.max_retries,
        "maxFailedIndexes": workers - 1,
        "podReplacementPolicy": "Failed",  # never two writers of one checkpoint
        "podFailurePolicy": {
            "rules": [
                *(_fail_at_once(c["name"]) for c in _programs(template)),
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": template,
    }
    if own.timeout_seconds:
        made["activeDeadlineSeconds"] = own.timeout_seconds
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": owner.metadata(name, COMPONENT, labels=labels),
        "spec": made,
    }


def _programs(template: dict[str, Any]) -> list[dict[str, Any]]:
    """The containers of a pod that run the pipeline's code, whose exit codes mean something."""
    spec = template["spec"]
    return [
        c
        for c in (*spec["containers"], *spec.get("initContainers", []))
        if c["name"] in (WORKER_CONTAINER, FETCH_CONTAINER)
    ]


def _fail_at_once(container: str) -> dict[str, Any]:
    """The rule that a container's configuration error is not tried again."""
    exit_codes = {"containerName": container, "operator": "In", "values": [CONFIGURATION_ERROR]}
    return {"action": "FailJob", "onExitCodes": exit_codes}


def _endpoint(spec: Spec, player: Model) -> Endpoint | None:
    """Somebody else's server that plays, if one does."""
    if player.kind == "teacher":
        assert spec.models.teacher is not None
        return spec.models.teacher.endpoint
    return spec.models.student.endpoint if player.kind == "base" else None


def _server(spec: Spec, player: Model | None, digest: str) -> Server | None:
    if player is None:
        return None
    if endpoint := _endpoint(spec, player):
        return Server.of(endpoint, field=endpoint_field(player))
    model = served(player, spec, gpu=has_gpu(spec), artifacts=ARTIFACTS, digest=digest)
    return Server(base_url=f"http://127.0.0.1:{_SERVER_PORT}/v1", model=model.name)


def _secrets(owner: RunRef, stage: Stage) -> Sequence[SecretKey]:
    """The keys that a stage's pod needs, and no others."""
    spec = owner.run.spec
    wanted = [database.dsn_reference(owner), spec.storage.credentials_secret_ref]
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
            needed = [_endpoint(spec, stage.player)] if stage.player else []
    wanted += [endpoint.api_key_secret_ref for endpoint in needed if endpoint]
    if stage.player or stage.id.kind is Kind.PREPARE:
        wanted.append(spec.environment.token_secret_ref)
    return [reference for reference in wanted if reference]
