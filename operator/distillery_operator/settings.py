"""The operator's settings, from environment variables, which the chart writes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from distillery import __version__
from distillery.core.api.spec.infrastructure import PodTemplate
from distillery_operator.model.names import INSTANCE_LABEL
from distillery_operator.model.objects import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
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

    namespace: str = "default"
    namespaces: tuple[str, ...] = ()
    controller_instance_id: str = ""
    pipeline_image: str = f"localhost/distillery/pipeline:{__version__}"
    gpu_server_image: str = "vllm/vllm-openai:v0.32.0"
    cpu_server_image: str = f"localhost/distillery/server-cpu:{__version__}"
    postgres_image: str = "pgvector/pgvector:pg17"
    gateway_image: str = f"localhost/distillery/gateway:{__version__}"
    image_pull_policy: str = "IfNotPresent"
    identity: str = field(default_factory=socket.gethostname)
    port: int = 8080
    lease_name: str = "distillery-operator"
    lease_seconds: int = 15
    resync_seconds: float = 60.0
    heal_seconds: float = 600.0
    metrics_from: tuple[Manifest, ...] = ()
    platform_assigns_ids: bool = False
    allowed_images: tuple[str, ...] = ()
    allowed_endpoints: tuple[str, ...] = ()
    allowed_service_accounts: tuple[str, ...] = ()
    allowed_priority_classes: tuple[str, ...] = ()
    allowed_runtime_classes: tuple[str, ...] = ()
    pod_template: PodTemplate = field(default_factory=PodTemplate)
    gpu_pod_template: PodTemplate = field(default_factory=PodTemplate)

    @property
    def run_selector(self) -> str:
        """The label selector of the runs that this operator acts on."""
        if self.controller_instance_id:
            return f"{INSTANCE_LABEL}={self.controller_instance_id}"
        return f"!{INSTANCE_LABEL}"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read ``DISTILLERY_<NAME>`` for every attribute. Raises ValueError that names a variable that is wrong."""
        given: dict[str, object] = {}
        for name, parameter in cls.__dataclass_fields__.items():
            variable = f"DISTILLERY_{name.upper()}"
            if not (text := environment.get(variable, "")):
                continue
            try:
                match parameter.type:
                    case "int":
                        given[name] = int(text)
                    case "float":
                        given[name] = float(text)
                    case "bool":
                        given[name] = {"true": True, "false": False}[text]
                    case "tuple[Manifest, ...]":
                        given[name] = tuple(json.loads(text))
                    case "PodTemplate":
                        given[name] = PodTemplate.model_validate_json(text)
                    case "tuple[str, ...]":
                        given[name] = tuple(filter(None, text.split(",")))
                    case _:
                        given[name] = text
            except KeyError as error:
                raise ValueError(f"{variable} is {text!r}: write true or false") from error
            except ValueError as error:
                if parameter.type == "PodTemplate":
                    raise ValueError(f"{variable} is not what spec.podTemplate of a run takes: {error}") from error
                wanted = "JSON" if parameter.type.startswith("tuple") else "number"
                raise ValueError(f"{variable} is {text!r}, which is no {wanted}") from error
        return cls(**given)  # type: ignore[arg-type]
