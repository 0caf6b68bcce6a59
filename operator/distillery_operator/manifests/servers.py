"""Model servers: the sidecar beside a stage's worker, and the Deployment that serves the promoted student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from distillery.api import Spec
from distillery.api.infrastructure import Resources
from distillery.planning import Model
from distillery.serving.arguments import ServedModel, server_arguments, server_environment
from distillery.serving.choice import served
from distillery_operator.manifests.names import STUDENT_LABEL, Owner
from distillery_operator.manifests.pods import (
    ARTIFACTS,
    Mount,
    artifacts,
    common_environment,
    container,
    on_one_node,
    pod,
    scratch,
    secrets,
    shared_memory,
    shares_one_node,
    store_uri,
)
from distillery_operator.settings import Settings

COMPONENT = "serving"
PORT = 8000
_MINUTES_TO_START = 30  # a large model is downloaded and compiled


def has_gpu(spec: Spec) -> bool:
    """Whether model servers get a GPU: whether they ask for a resource that is called so."""
    return asks_for_gpu(spec.model_server.resources)


def asks_for_gpu(resources: Resources) -> bool:
    """``nvidia.com/gpu``, ``amd.com/gpu``, a slice such as ``nvidia.com/mig-1g.10gb``."""
    return any("gpu" in name or "/mig-" in name for name in resources.limits)


def fetch(
    owner: Owner, model: ServedModel, *, image: str, mounts: Sequence[Mount], settings: Settings
) -> dict[str, Any]:
    """An init container that brings what the server needs: the base model, and the student's files, checked."""
    command = ["python", "-m", "distillery.serving.fetch", "--model", model.base]
    if model.revision:
        command += ["--revision", model.revision]
    if folder := model.merged or model.adapter:
        stage = folder.removeprefix(f"{ARTIFACTS}/").split("/")[0]
        command += ["--artifact", stage, "--store", store_uri(owner), "--cache", ARTIFACTS]
        if endpoint := owner.run.spec.storage.endpoint_url:
            command += ["--endpoint-url", endpoint]
    return container(
        "fetch",
        image,
        command,
        mounts=mounts,
        pull_policy=settings.image_pull_policy,
        environment=common_environment(owner.run.spec),
        terminationMessagePolicy="FallbackToLogsOnError",
    )


def sidecar(
    owner: Owner, model: ServedModel, *, port: int, mounts: Sequence[Mount], settings: Settings
) -> dict[str, Any]:
    """A native sidecar on loopback: the worker starts when it answers, and it ends when the worker has."""
    spec = owner.run.spec
    return _vllm(
        spec,
        model,
        host="127.0.0.1",
        port=port,
        resources=spec.model_server.resources,
        mounts=mounts,
        settings=settings,
        load_adapter=True,
        restartPolicy="Always",
    )


def _vllm(
    spec: Spec,
    model: ServedModel,
    *,
    host: str,
    port: int,
    resources: Resources,
    mounts: Sequence[Mount],
    settings: Settings,
    load_adapter: bool,
    **more: Any,
) -> dict[str, Any]:
    gpu = asks_for_gpu(resources)
    arguments = server_arguments(model, host=host, port=port, gpu=gpu, load_adapter=load_adapter)
    probe = {"exec": {"command": health_check(port)}, "timeoutSeconds": 10}
    return container(
        "server",
        spec.model_server.image or (settings.gpu_server_image if gpu else settings.cpu_server_image),
        ["python3", "-m", "vllm.entrypoints.openai.api_server", *arguments, *spec.model_server.arguments],
        mounts=mounts,
        pull_policy=settings.image_pull_policy,
        environment={
            **common_environment(spec),
            **server_environment(gpu=gpu),
            "VLLM_CACHE_ROOT": f"{ARTIFACTS}/.vllm",  # what one server compiled the next need not compile again
        },
        resources=resources,
        startupProbe={**probe, "periodSeconds": 4, "failureThreshold": _MINUTES_TO_START * 15},
        **more,
    )


def health_check(port: int) -> list[str]:
    """A command that asks from inside the container, for the kubelet does not reach loopback.

    Without imports that cost a busy node time.
    """
    program = (
        f"import socket; s = socket.create_connection(('127.0.0.1', {port}), 5); "
        "s.sendall(b'GET /health HTTP/1.0\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in s.recv(64))"
    )
    return ["python3", "-I", "-S", "-c", program]


def deployment(owner: Owner, student: Model, digest: str, settings: Settings) -> dict[str, Any]:
    """The servers of the promoted student; a new student replaces them one by one, none missing meanwhile."""
    spec = owner.run.spec
    resources = spec.promotion.service.resources or spec.model_server.resources
    wanted = served(student, spec, gpu=asks_for_gpu(resources), artifacts=ARTIFACTS, digest=digest)
    model = replace(wanted, name=owner.name)
    pods = on_one_node(owner, spec.pods) if shares_one_node(spec) else spec.pods
    credentials = secrets([spec.storage.credentials_secret_ref] if spec.storage.credentials_secret_ref else [])
    files = [artifacts(owner), scratch(), shared_memory()]
    server = _vllm(
        spec,
        model,
        host="0.0.0.0",  # noqa: S104 - the pod's own address
        port=PORT,
        resources=resources,
        mounts=files,
        settings=settings,
        load_adapter=True,
        ports=[{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        readinessProbe={"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 5},
        lifecycle={"preStop": {"sleep": {"seconds": 5}}},  # until no Service sends requests any more
    )
    image = spec.pods.image or settings.pipeline_image
    template = pod(
        owner,
        owner.labels(COMPONENT, {STUDENT_LABEL: digest[:12]}),
        pods,
        containers=[server],
        init_containers=[fetch(owner, model, image=image, mounts=[*files, *credentials], settings=settings)],
        mounts=[*files, *credentials],
        terminationGracePeriodSeconds=120,
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(owner.name, COMPONENT),
        "spec": {
            "replicas": spec.promotion.service.replicas,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": owner.selector(COMPONENT)},
            "template": template,
        },
    }


def service(owner: Owner) -> dict[str, Any]:
    """Where users find the promoted student."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(owner.name, COMPONENT),
        "spec": {
            "selector": owner.selector(COMPONENT),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}],
        },
    }


def url(owner: Owner) -> str:
    """The endpoint's URL inside the cluster."""
    return f"http://{owner.name}.{owner.namespace}.svc:{PORT}/v1"
