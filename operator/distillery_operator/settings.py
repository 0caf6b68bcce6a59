"""The operator's settings, from environment variables, which the chart writes."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from pydantic import ValidationError

from distillery import __version__
from distillery.core.api.problems import explain
from distillery.core.api.spec.infrastructure import PodTemplate
from distillery.core.settings import (
    EnvironmentSettings,
    parse_boolean,
    parse_integer,
    parse_json_list,
    parse_json_object,
    parse_names,
    parse_number,
    variable,
)
from distillery_operator.model.names import INSTANCE_LABEL
from distillery_operator.model.objects import Manifest


def _parse_manifests(text: str) -> tuple[Manifest, ...]:
    return tuple(parse_json_list(text))


def _parse_pod_template(text: str) -> PodTemplate:
    parse_json_object(text)
    try:
        return PodTemplate.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(map(str, explain(error, PodTemplate)))
        raise ValueError(f"write what spec.podTemplate of a run takes: {problems}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(EnvironmentSettings):
    """The operator's settings.

    Attributes:
        namespace: where it runs itself: its Lease lies there.
        namespaces: what it watches; empty for all.
        controller_instance_id: it acts on the runs that have this value of the label ``INSTANCE_LABEL`` alone; empty
            for those without the label. As Argo Rollouts' ``--instance-id``.
        pipeline_image: of stages.
        gpu_server_image: of model servers with a GPU.
        cpu_server_image: of model servers without.
        postgres_image: of quick-start databases; PostgreSQL with pgvector.
        gateway_image: of the gateway in front of served students, and of the syncer.
        image_pull_policy: of all of them.
        identity: tells replicas apart.
        port: of health and metrics.
        lease_name: the Lease that the replicas of one release share.
        lease_seconds: after so long without a word of the leader another replica leads.
        resync_seconds: how often an active run is looked at without cause.
        heal_seconds: how often what serves is, so that what somebody deleted comes back.
        pod_template: settings of all pods of runs, where these say nothing else.
        gpu_pod_template: the same of pods that ask for a GPU.
        metrics_from: peers of a NetworkPolicy that may collect the metrics of served students.
        platform_assigns_ids: users and groups of pods are left to the platform, as OpenShift's ``restricted-v2`` asks.
        allowed_images: registries, folders of them, or images that runs may name; empty for all, as in the next four.
        allowed_endpoints: hosts, or domains as ``*.example.com``, whose URLs runs may name.
        allowed_service_accounts: names of accounts that runs may use instead of their own.
        allowed_priority_classes: names of priority classes.
        allowed_runtime_classes: names of runtime classes.
    """

    namespace: str = field(default="default", metadata=variable("DISTILLERY_NAMESPACE"))
    namespaces: tuple[str, ...] = field(default=(), metadata=variable("DISTILLERY_NAMESPACES", parse_names))
    controller_instance_id: str = field(default="", metadata=variable("DISTILLERY_CONTROLLER_INSTANCE_ID"))
    pipeline_image: str = field(
        default=f"localhost/distillery/pipeline:{__version__}", metadata=variable("DISTILLERY_PIPELINE_IMAGE")
    )
    gpu_server_image: str = field(default="vllm/vllm-openai:v0.32.0", metadata=variable("DISTILLERY_GPU_SERVER_IMAGE"))
    cpu_server_image: str = field(
        default=f"localhost/distillery/server-cpu:{__version__}", metadata=variable("DISTILLERY_CPU_SERVER_IMAGE")
    )
    postgres_image: str = field(default="pgvector/pgvector:pg17", metadata=variable("DISTILLERY_POSTGRES_IMAGE"))
    gateway_image: str = field(
        default=f"localhost/distillery/gateway:{__version__}", metadata=variable("DISTILLERY_GATEWAY_IMAGE")
    )
    image_pull_policy: str = field(default="IfNotPresent", metadata=variable("DISTILLERY_IMAGE_PULL_POLICY"))
    identity: str = field(default_factory=socket.gethostname, metadata=variable("DISTILLERY_IDENTITY"))
    port: int = field(default=8080, metadata=variable("DISTILLERY_PORT", parse_integer))
    lease_name: str = field(default="distillery-operator", metadata=variable("DISTILLERY_LEASE_NAME"))
    lease_seconds: int = field(default=15, metadata=variable("DISTILLERY_LEASE_SECONDS", parse_integer))
    resync_seconds: float = field(default=60.0, metadata=variable("DISTILLERY_RESYNC_SECONDS", parse_number))
    heal_seconds: float = field(default=600.0, metadata=variable("DISTILLERY_HEAL_SECONDS", parse_number))
    metrics_from: tuple[Manifest, ...] = field(
        default=(), metadata=variable("DISTILLERY_METRICS_FROM", _parse_manifests)
    )
    platform_assigns_ids: bool = field(
        default=False, metadata=variable("DISTILLERY_PLATFORM_ASSIGNS_IDS", parse_boolean)
    )
    allowed_images: tuple[str, ...] = field(default=(), metadata=variable("DISTILLERY_ALLOWED_IMAGES", parse_names))
    allowed_endpoints: tuple[str, ...] = field(
        default=(), metadata=variable("DISTILLERY_ALLOWED_ENDPOINTS", parse_names)
    )
    allowed_service_accounts: tuple[str, ...] = field(
        default=(), metadata=variable("DISTILLERY_ALLOWED_SERVICE_ACCOUNTS", parse_names)
    )
    allowed_priority_classes: tuple[str, ...] = field(
        default=(), metadata=variable("DISTILLERY_ALLOWED_PRIORITY_CLASSES", parse_names)
    )
    allowed_runtime_classes: tuple[str, ...] = field(
        default=(), metadata=variable("DISTILLERY_ALLOWED_RUNTIME_CLASSES", parse_names)
    )
    pod_template: PodTemplate = field(
        default_factory=PodTemplate, metadata=variable("DISTILLERY_POD_TEMPLATE", _parse_pod_template)
    )
    gpu_pod_template: PodTemplate = field(
        default_factory=PodTemplate, metadata=variable("DISTILLERY_GPU_POD_TEMPLATE", _parse_pod_template)
    )

    @property
    def run_selector(self) -> str:
        """The label selector of the runs that this operator acts on."""
        if self.controller_instance_id:
            return f"{INSTANCE_LABEL}={self.controller_instance_id}"
        return f"!{INSTANCE_LABEL}"
