"""A vLLM server in a pod: its container, and the init container that fetches its model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distillery.core.api import Spec
from distillery.core.api.spec.infrastructure import Resources, asks_for_gpu
from distillery.core.model_servers import ServedModel, server_arguments, server_environment
from distillery_operator.manifests.pods import (
    ARTIFACTS,
    Image,
    Mount,
    artifact_folder,
    common_environment,
    container,
    store_uri,
    variables,
)
from distillery_operator.manifests.resources import DOWNLOAD, SERVER, complete
from distillery_operator.model.names import FETCH_CONTAINER, RunRef
from distillery_operator.settings import Settings

_MINUTES_TO_START = 30  # a large model is downloaded and compiled
_ADAPTER_ARGUMENTS = ("--max-loras", "2")  # requests in progress on the former student do not wait for the new one
_ADAPTER_ENVIRONMENT = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A vLLM of a pod.

    Attributes:
        model: what it serves.
        port: on loopback.
        mounts: the files that it reads.
        resources: that it asks for.
        adapters: a syncer exchanges its adapters while it runs.
    """

    model: ServedModel
    port: int
    mounts: Sequence[Mount]
    resources: Resources
    adapters: bool = False


def stage_servers_have_gpu(spec: Spec) -> bool:
    """Return whether model servers get a GPU, because they ask for a resource with such a name."""
    return asks_for_gpu(spec.model_server.resources)


def fetch_container(
    owner: RunRef, model: ServedModel, digest: str, *, image: Image, mounts: Sequence[Mount]
) -> dict[str, Any]:
    """Return an init container that fetches what the server needs: the base model, and the student's files, verified.

    Args:
        owner: the run.
        model: what the server serves.
        digest: of the student's adapter.
        image: of the pipeline.
        mounts: where the files go, and the Secrets that open the stores.
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
        resources=DOWNLOAD,
        env=variables(common_environment(owner.run.spec)),
        terminationMessagePolicy="FallbackToLogsOnError",
    )


def server_container(spec: Spec, server: VllmServer, settings: Settings, **more: Any) -> dict[str, Any]:
    """Return a native sidecar with vLLM. It listens on loopback only, because its API has no limits and no keys.

    The main container starts when the server answers, and the server ends after the main container.

    Args:
        spec: the run's.
        server: what to serve, and how.
        settings: images.
        more: other fields of the container, as Kubernetes has them.
    """
    gpu, port = asks_for_gpu(server.resources), server.port
    image = spec.model_server.image or (settings.gpu_server_image if gpu else settings.cpu_server_image)
    arguments = [
        *server_arguments(server.model, port=port, gpu=gpu, load_adapter=True),
        *(_ADAPTER_ARGUMENTS if server.adapters else ()),
        *spec.model_server.extra_args,
    ]
    environment = {
        **common_environment(spec),
        **server_environment(gpu=gpu),
        **({} if gpu else _threads(server.resources)),
        **(_ADAPTER_ENVIRONMENT if server.adapters else {}),
        "VLLM_CACHE_ROOT": f"{ARTIFACTS}/.vllm",  # the next server need not compile what this one compiled
    }
    probe = {"exec": {"command": health_check(port)}, "timeoutSeconds": 10}
    return container(
        "server",
        Image(image, settings.image_pull_policy),
        ["python3", "-m", "vllm.entrypoints.openai.api_server", *arguments],
        mounts=server.mounts,
        resources=complete(server.resources, SERVER),
        env=variables(environment),
        startupProbe={**probe, "periodSeconds": 4, "failureThreshold": _MINUTES_TO_START * 15},
        restartPolicy="Always",
        **more,
    )


def _threads(resources: Resources) -> dict[str, str]:
    """Return the variables for as many threads as the cores that a server asks for, on any cores.

    By itself vLLM would take all cores of the node but one, and bind to them: two servers of a node to the same.
    """
    cores = resources.limits.get("cpu") or resources.requests.get("cpu")
    if cores is None:
        return {}
    count = math.ceil(float(cores.removesuffix("m")) / (1000 if cores.endswith("m") else 1))
    return {"OMP_NUM_THREADS": str(count), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def health_check(port: int) -> list[str]:
    """Return a command that runs inside the container, because the kubelet does not reach loopback.

    It needs no imports that cost a busy node time.
    """
    program = (
        f"import socket; s = socket.create_connection(('127.0.0.1', {port}), 5); "
        "s.sendall(b'GET /health HTTP/1.0\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in s.recv(64))"
    )
    return ["python3", "-I", "-S", "-c", program]
