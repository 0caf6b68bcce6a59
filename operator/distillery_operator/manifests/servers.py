"""Model servers: the sidecar of a stage's worker, and the Deployment that serves the promoted student."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from distillery.core.api import Spec
from distillery.core.api.spec.infrastructure import Resources, asks_for_gpu
from distillery.core.planner import Model
from distillery.core.planner.graph import BASE
from distillery.core.served_models import merges, served, student_name
from distillery.core.vllm_arguments import ServedModel, server_arguments, server_environment
from distillery_operator.manifests import gateway, placement, recorder
from distillery_operator.manifests.gateway import SERVING, Site
from distillery_operator.manifests.names import FETCH_CONTAINER, STUDENT_LABEL, RunRef, student_label
from distillery_operator.manifests.placement import serving_resources
from distillery_operator.manifests.pods import (
    ARTIFACTS,
    Mount,
    artifact_folder,
    artifacts,
    common_environment,
    container,
    model_cache,
    pipeline_image,
    pod,
    scratch,
    shared_memory,
    store_uri,
)
from distillery_operator.manifests.resources import DOWNLOAD, SERVER, complete
from distillery_operator.settings import Settings

_MINUTES_TO_START = 30  # a large model is downloaded and compiled
_MINUTES_TO_RECOVER = 3  # a server that hangs is ended then
_ADAPTER_ARGUMENTS = ("--max-loras", "2")  # what is under way on the former student does not wait for the new one
_ADAPTER_ENVIRONMENT = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}


def has_gpu(spec: Spec) -> bool:
    """Return whether model servers get a GPU: whether they ask for a resource that is called so."""
    return asks_for_gpu(spec.model_server.resources)


def fetch(
    owner: RunRef, model: ServedModel, digest: str, *, image: str, mounts: Sequence[Mount], settings: Settings
) -> dict[str, Any]:
    """Return an init container that brings what the server needs: the base model, and the student's files, checked.

    ``digest`` is of the student's adapter.
    """
    command = ["python", "-m", "distillery.serving.fetch", "--model", model.base]
    if model.revision:
        command += ["--revision", model.revision]
    if folder := model.merged or model.adapter:
        stage = folder.removeprefix(f"{artifact_folder(owner)}/").split("/")[0]
        command += ["--artifact", stage, "--student", digest, "--run", str(owner.identity)]
        command += ["--store", store_uri(owner), "--cache", ARTIFACTS]
        if endpoint := owner.run.spec.storage.endpoint_url:
            command += ["--endpoint-url", endpoint]
    return container(
        FETCH_CONTAINER,
        image,
        command,
        mounts=mounts,
        pull_policy=settings.image_pull_policy,
        environment=common_environment(owner.run.spec),
        resources=DOWNLOAD,
        terminationMessagePolicy="FallbackToLogsOnError",
    )


def sidecar(
    owner: RunRef, model: ServedModel, *, port: int, mounts: Sequence[Mount], settings: Settings
) -> dict[str, Any]:
    """Return a native sidecar on loopback: the worker starts when it answers, and it ends when the worker has."""
    spec = owner.run.spec
    return _vllm(
        spec,
        model,
        port=port,
        resources=spec.model_server.resources,
        mounts=mounts,
        settings=settings,
        restartPolicy="Always",
    )


def _vllm(
    spec: Spec,
    model: ServedModel,
    *,
    port: int,
    resources: Resources,
    mounts: Sequence[Mount],
    settings: Settings,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A vLLM on loopback, and nowhere else: whoever reaches it may do with it what they like."""
    gpu = asks_for_gpu(resources)
    command = [*server_arguments(model, port=port, gpu=gpu, load_adapter=True), *arguments]
    probe = {"exec": {"command": health_check(port)}, "timeoutSeconds": 10}
    return container(
        "server",
        spec.model_server.image or (settings.gpu_server_image if gpu else settings.cpu_server_image),
        ["python3", "-m", "vllm.entrypoints.openai.api_server", *command, *spec.model_server.extra_args],
        mounts=mounts,
        pull_policy=settings.image_pull_policy,
        environment={
            **common_environment(spec),
            **server_environment(gpu=gpu),
            **({} if gpu else _threads(resources)),
            **(environment or {}),
            "VLLM_CACHE_ROOT": f"{ARTIFACTS}/.vllm",  # what one server compiled the next need not compile again
        },
        resources=complete(resources, SERVER),
        startupProbe={**probe, "periodSeconds": 4, "failureThreshold": _MINUTES_TO_START * 15},
        **more,
    )


def _threads(resources: Resources) -> dict[str, str]:
    """As many as the cores that a server asks for, and wherever there is room.

    By itself vLLM would take all cores of the node but one, and bind to them: two servers of a node to the same.
    """
    cores = resources.limits.get("cpu") or resources.requests.get("cpu")
    if cores is None:
        return {}
    count = math.ceil(float(cores.removesuffix("m")) / (1000 if cores.endswith("m") else 1))
    return {"OMP_NUM_THREADS": str(count), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def health_check(port: int) -> list[str]:
    """Return a command that asks from inside the container, for the kubelet does not reach loopback.

    Without imports that cost a busy node time.
    """
    program = (
        f"import socket; s = socket.create_connection(('127.0.0.1', {port}), 5); "
        "s.sendall(b'GET /health HTTP/1.0\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in s.recv(64))"
    )
    return ["python3", "-I", "-S", "-c", program]


def hang_check(port: int) -> list[str]:
    """Return a command that fails where the gateway says that vLLM hangs: vLLM's front end doesn't know.

    A gateway that is away, or does not answer, says nothing of vLLM.
    """
    program = (
        "import socket\n"
        "try:\n"
        f"    s = socket.create_connection(('127.0.0.1', {port}), 5)\n"
        "    s.sendall(b'GET /upstream HTTP/1.0\\r\\n\\r\\n')\n"
        "    hangs = b' 503 ' in s.recv(64)\n"
        "except OSError:\n"
        "    hangs = False\n"
        "raise SystemExit(hangs)"
    )
    return ["python3", "-I", "-S", "-c", program]


def serves_adapters(spec: Spec) -> bool:
    """Return whether promoted students are served as adapters, which one server exchanges while it runs."""
    return not merges(spec, gpu=asks_for_gpu(serving_resources(spec)))


def deployment(
    owner: RunRef,
    student: Model,
    digest: str,
    settings: Settings,
    site: Site = SERVING,
    *,
    replicas: int | None = None,
) -> dict[str, Any]:
    """Return the servers of the promoted student, or of a canary.

    As an adapter a new student changes nothing here: the syncers load it. As merged weights it replaces the servers one
    by one, none missing meanwhile.

    Args:
        owner: the run.
        student: what is served.
        digest: of its adapter; empty for the base model.
        settings: images.
        site: which servers.
        replicas: how many. Default: ``serving.replicas``.
    """
    spec = owner.run.spec
    resources = serving_resources(spec)
    gpu, adapter = asks_for_gpu(resources), serves_adapters(spec)
    pods = placement.serving_pods(owner, settings)
    files = [artifacts(owner), *model_cache(owner), scratch(), shared_memory()]
    opens_store = gateway.credentials(spec)
    if adapter:
        model = served(BASE, spec, gpu=gpu, artifacts=artifact_folder(owner))
        labels = placement.volume_label(spec)
    else:
        model = served(student, spec, gpu=gpu, artifacts=artifact_folder(owner), digest=digest)
        # the first name stands in answers, the second one is the same whatever student a pod holds
        model = replace(model, name=student_name(digest), aliases=(owner.name,))
        labels = {STUDENT_LABEL: student_label(digest), **placement.volume_label(spec)}
    server = _vllm(
        spec,
        model,
        port=gateway.UPSTREAM_PORT,
        resources=resources,
        mounts=[*files, gateway.adapters(read_only=True)] if adapter else files,
        settings=settings,
        arguments=_ADAPTER_ARGUMENTS if adapter else (),
        environment=_ADAPTER_ENVIRONMENT if adapter else {},
        restartPolicy="Always",
        # the gateway sends a server that hangs no requests from the first minutes on; this ends it
        livenessProbe={
            "exec": {"command": hang_check(gateway.ADMIN_PORT)},
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": _MINUTES_TO_RECOVER * 6,
        },
    )
    image = pipeline_image(pods, settings)
    mounts_of_fetch = files if adapter else [*files, *opens_store]
    fetched = fetch(owner, model, digest, image=image, mounts=mounts_of_fetch, settings=settings)
    feedback, surge = gateway.kept(spec, site), spec.serving.max_surge
    template = pod(
        owner,
        owner.labels(site.component, labels),
        pods,
        settings,
        containers=[gateway.gateway(owner, gpu=gpu, settings=settings, site=site)],
        init_containers=[
            fetched,
            server,
            *([gateway.syncer(owner, settings=settings)] if adapter else []),
            *([recorder.recorder(owner, feedback, image=image, settings=settings)] if feedback else []),
        ],
        mounts=[
            *files,
            gateway.told(owner, site),
            *gateway.keys(spec),
            *opens_store,
            *([gateway.adapters(read_only=False)] if adapter else []),
            *([recorder.FOLDER, recorder.credentials(owner)] if feedback else []),
        ],
        terminationGracePeriodSeconds=gateway.GRACE_SECONDS,
        topologySpreadConstraints=[] if placement.shares_one_node(spec) else _spread(owner, site),
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(site.named(owner), site.component),
        "spec": {
            "replicas": spec.serving.replicas if replicas is None else replicas,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0 if surge else 1, "maxSurge": surge},
            },
            "selector": {"matchLabels": owner.selector(site.component)},
            "template": template,
        },
    }


def _spread(owner: RunRef, site: Site) -> list[dict[str, Any]]:
    """Nodes and zones share the pods, where they can: better two on one node than one too few."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": owner.selector(site.component)},
        }
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]


def disruption_budget(owner: RunRef) -> dict[str, Any]:
    """Return the budget: drains evict one reachable pod at a time, and always one that does not answer."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(SERVING.named(owner), SERVING.component),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": owner.selector(SERVING.component)},
        },
    }


def service(owner: RunRef, site: Site = SERVING) -> dict[str, Any]:
    """Return the Service of the promoted student, for users, or of a canary, for gateways."""
    port = {"name": "http", "port": gateway.PORT, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(site.named(owner), site.component),
        "spec": {"selector": owner.selector(site.component), "ports": [port]},
    }


def url(owner: RunRef) -> str:
    """Return the endpoint's URL inside the cluster."""
    return f"http://{owner.name}.{owner.namespace}.svc:{gateway.PORT}/v1"
