"""The servers of the promoted student, and of a canary: Deployment, Service and disruption budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from distillery.core.api import Spec
from distillery.core.api.spec.feedback import Feedback
from distillery.core.api.spec.infrastructure import asks_for_gpu
from distillery.core.model_servers import ServedModel, served_model, serves_merged, student_name
from distillery.core.planner import Model
from distillery.core.planner.graph import BASE
from distillery_operator.manifests import gateway, placement, recorder
from distillery_operator.manifests.gateway import SERVING, ServerGroup
from distillery_operator.manifests.placement import serving_resources
from distillery_operator.manifests.pods import (
    Image,
    Mount,
    PodPart,
    artifact_folder,
    artifacts,
    model_cache,
    pipeline_image,
    pod,
    scratch,
    shared_memory,
)
from distillery_operator.manifests.vllm import VllmServer, fetch_container, server_container
from distillery_operator.model.names import STUDENT_LABEL, RunRef, student_label
from distillery_operator.settings import Settings

_MINUTES_TO_RECOVER = 3  # a server that hangs is ended then


def hang_check(port: int) -> list[str]:
    """Return a command that fails if the gateway reports that vLLM hangs; vLLM's front end doesn't notice.

    A gateway that does not answer reports nothing about vLLM.
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
    return not serves_merged(spec, gpu=asks_for_gpu(serving_resources(spec)))


def deployment(
    owner: RunRef, student: Model, digest: str, settings: Settings, group: ServerGroup = SERVING
) -> dict[str, Any]:
    """Return the servers of the promoted student, or of a canary.

    As an adapter a new student changes nothing here: the syncers load it. As merged weights it replaces the servers one
    by one, none missing meanwhile.

    Args:
        owner: the run.
        student: what is served.
        digest: of its adapter; empty for the base model.
        settings: images.
        group: which servers.
    """
    spec = owner.run.spec
    placed, surge = placement.serving_pods(owner, settings), spec.serving.max_surge
    template = pod(
        owner,
        sum(_ServingPod(owner, student, digest, settings, group).parts(), start=PodPart()),
        placed,
        settings,
        terminationGracePeriodSeconds=gateway.GRACE_SECONDS,
        topologySpreadConstraints=[] if placement.shares_one_node(spec) else _spread(owner, group),
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(group.resource_name(owner), group.component),
        "spec": {
            "replicas": spec.serving.replicas,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0 if surge else 1, "maxSurge": surge},
            },
            "selector": {"matchLabels": owner.selector(group.component)},
            "template": template,
        },
    }


@dataclass(frozen=True, slots=True)
class _ServingPod:
    """A pod that serves a student; the attributes are the arguments of :func:`deployment`."""

    owner: RunRef
    student: Model
    digest: str
    settings: Settings
    group: ServerGroup

    def parts(self) -> Iterator[PodPart]:
        """Yield the part of each program. Init containers start in this order."""
        yield PodPart(mounts=self._files, labels=self._labels)
        yield self._gateway()
        yield self._fetch()
        yield self._server()
        if self._adapter:
            yield self._syncer()
        if feedback := gateway.feedback_settings(self.owner.run.spec, self.group):
            yield self._recorder(feedback)

    def _gateway(self) -> PodPart:
        container = gateway.gateway_container(self.owner, gpu=self._gpu, settings=self.settings, group=self.group)
        mounts = (gateway.routing_mount(self.owner, self.group), *gateway.api_key_mounts(self.owner.run.spec))
        return PodPart(containers=(container,), mounts=mounts)

    def _fetch(self) -> PodPart:
        credentials = () if self._adapter else self._credentials  # the syncer fetches adapters
        mounts = (*self._files, *credentials)
        container = fetch_container(self.owner, self._model, self.digest, image=self._image, mounts=mounts)
        return PodPart(init_containers=(container,), mounts=mounts)

    def _server(self) -> PodPart:
        mounts = (*self._files, gateway.adapters_mount(read_only=True)) if self._adapter else self._files
        resources = serving_resources(self.owner.run.spec)
        server = VllmServer(self._model, gateway.UPSTREAM_PORT, mounts, resources, adapters=self._adapter)
        # the gateway sends a server that hangs no requests from the first minutes on; this ends it
        probe = {
            "exec": {"command": hang_check(gateway.ADMIN_PORT)},
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": _MINUTES_TO_RECOVER * 6,
        }
        container = server_container(self.owner.run.spec, server, self.settings, livenessProbe=probe)
        return PodPart(init_containers=(container,), mounts=self._files)

    def _syncer(self) -> PodPart:
        container = gateway.syncer_container(self.owner, settings=self.settings)
        mounts = (*self._credentials, gateway.adapters_mount(read_only=False))
        return PodPart(init_containers=(container,), mounts=mounts)

    def _recorder(self, feedback: Feedback) -> PodPart:
        container = recorder.recorder(self.owner, feedback, image=self._image)
        return PodPart(init_containers=(container,), mounts=(recorder.FOLDER, recorder.credentials(self.owner)))

    @property
    def _gpu(self) -> bool:
        return asks_for_gpu(serving_resources(self.owner.run.spec))

    @property
    def _adapter(self) -> bool:
        return serves_adapters(self.owner.run.spec)

    @property
    def _model(self) -> ServedModel:
        """The model that vLLM loads when it starts: with adapters, the base model."""
        spec, folder = self.owner.run.spec, artifact_folder(self.owner)
        if self._adapter:
            return served_model(BASE, spec, gpu=self._gpu, artifacts=folder)
        model = served_model(self.student, spec, gpu=self._gpu, artifacts=folder, digest=self.digest)
        # the first name appears in answers, the second one is the same whatever student a pod holds
        return replace(model, name=student_name(self.digest), aliases=(self.owner.name,))

    @property
    def _labels(self) -> dict[str, str]:
        student = {} if self._adapter else {STUDENT_LABEL: student_label(self.digest)}
        return self.owner.labels(self.group.component, {**student, **placement.volume_label(self.owner.run.spec)})

    @property
    def _image(self) -> Image:
        return pipeline_image(placement.serving_pods(self.owner, self.settings), self.settings)

    @property
    def _files(self) -> tuple[Mount, ...]:
        return (artifacts(self.owner), *model_cache(self.owner), scratch(), shared_memory())

    @property
    def _credentials(self) -> tuple[Mount, ...]:
        return tuple(gateway.credential_mounts(self.owner.run.spec))


def scale(manifest: dict[str, Any], replicas: int) -> dict[str, Any]:
    """Return a Deployment with another number of replicas."""
    return {**manifest, "spec": {**manifest["spec"], "replicas": replicas}}


def _spread(owner: RunRef, group: ServerGroup) -> list[dict[str, Any]]:
    """Return the constraints that spread pods over nodes and zones if possible; two on one node beat one too few."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": owner.selector(group.component)},
        }
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]


def disruption_budget(owner: RunRef) -> dict[str, Any]:
    """Return the budget: drains evict one reachable pod at a time, and always one that does not answer."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(SERVING.resource_name(owner), SERVING.component),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": owner.selector(SERVING.component)},
        },
    }


def service(owner: RunRef, group: ServerGroup = SERVING) -> dict[str, Any]:
    """Return the Service of the promoted student, for users, or of a canary, for gateways."""
    port = {"name": "http", "port": gateway.PORT, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(group.resource_name(owner), group.component),
        "spec": {"selector": owner.selector(group.component), "ports": [port]},
    }


def url(owner: RunRef) -> str:
    """Return the endpoint's URL inside the cluster."""
    return f"http://{owner.name}.{owner.namespace}.svc:{gateway.PORT}/v1"
