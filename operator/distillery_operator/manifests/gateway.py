"""The gateway, the syncer and their routing document: everything between clients and a served student's vLLM."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from distillery.core.api import Spec
from distillery.core.api.spec.feedback import Feedback
from distillery.core.api.spec.infrastructure import Resources
from distillery.core.api.spec.serving import GatewayLimits
from distillery.core.contracts.routing import Adapter, RoutingConfig, Target
from distillery.core.model_servers import student_name
from distillery.core.planner import Model
from distillery_operator.manifests import recorder
from distillery_operator.manifests.pods import (
    ARTIFACTS,
    CONFIG,
    Image,
    Mount,
    artifacts,
    container,
    liveness,
    operator_peer,
    secret_mounts,
    secret_path,
    store_uri,
    variables,
)
from distillery_operator.model.names import SERVING_COMPONENT, RunRef, ingress_policy, student_label
from distillery_operator.settings import Settings

PORT = 8000
UPSTREAM_PORT = 8001
ADMIN_PORT = 8002
SYNCER = "syncer"
SYNCER_PORT = 8003
GENERATION = "distillery.dev/routing-generation"
"""Annotation of a serving pod: a change of it lets the kubelet look at the pod's files at once."""

_KEY = "desired"
_DRAIN_SECONDS = 110  # of running requests: the limit of the gateway
_LEAVE_SECONDS = 5  # until no Service sends requests any more
GRACE_SECONDS = _LEAVE_SECONDS + _DRAIN_SECONDS + 15  # and the servers behind end after the gateway

_BODY_BYTES = 2_000_000
_MEMORY_OF_A_BODY = 16
"""The gateway holds two of the largest bodies at least, up to three times each, and reads one more at a time."""
_SYNCER_RESOURCES = Resources(
    requests={"cpu": "20m", "memory": "96Mi"},
    limits={"cpu": "1", "memory": "512Mi"},
)


@dataclass(frozen=True, slots=True)
class ServerGroup:
    """Servers of a run.

    Attributes:
        component: the label of their pods.
        suffix: of the names of their Deployment and Service.
    """

    component: str
    suffix: str = ""

    def resource_name(self, owner: RunRef) -> str:
        """Return the name of the Deployment and the Service."""
        return owner.name + self.suffix

    def config_name(self, owner: RunRef) -> str:
        """Return the name of the ConfigMap with what is to be served, and of the NetworkPolicy."""
        return f"{owner.name}-{self.component}"


SERVING = ServerGroup(SERVING_COMPONENT)
"""Those that clients reach."""

CANARY = ServerGroup("canary", "-canary")
"""The servers of a canary, if weights are merged and one vLLM can't hold two students."""


@dataclass(frozen=True, slots=True)
class CanaryRoute:
    """The route of a canary: its share of the requests, or copies of them.

    Attributes:
        student: who it is.
        digest: of its adapter.
        weight: per cent of the sessions; 0 for copies.
        step: tells a step from every other: a pod counts from 0 with a new table, even where the shares are the same.
        max_first_token_seconds: gateways count a request that waits longer as slow.
    """

    student: Model
    digest: str
    weight: int
    step: str
    max_first_token_seconds: float


def routing_document(
    owner: RunRef, student: Model, digest: str, *, adapter: bool, canary: CanaryRoute | None = None
) -> RoutingConfig:
    """Return the routing document of every pod's gateway and syncer.

    Args:
        owner: the run.
        student: the stable student.
        digest: of its adapter; empty for the base model.
        adapter: served as an adapter of the base model. Else each pod holds one model, under the run's name.
        canary: the canary, if there is one.
    """
    stable = _target(owner, digest, adapter=adapter)
    config = RoutingConfig(adapters=_adapters(student, digest, adapter=adapter), aliases={owner.name: (stable,)})
    if canary is None:
        return config.with_generation()
    target = _target(owner, canary.digest, adapter=adapter)
    if not adapter:
        target = replace(target, upstream=f"http://{CANARY.resource_name(owner)}.{owner.namespace}.svc:{PORT}")
    config = replace(
        config,
        adapters=config.adapters + _adapters(canary.student, canary.digest, adapter=adapter),
        step=canary.step,
        max_first_token_seconds=canary.max_first_token_seconds,
    )
    if canary.weight:
        shares = (replace(stable, weight=100 - canary.weight), replace(target, weight=canary.weight))
        return replace(config, aliases={owner.name: shares}).with_generation()
    return replace(config, shadows={owner.name: target}).with_generation()


def _adapters(student: Model, digest: str, *, adapter: bool) -> tuple[Adapter, ...]:
    if not (adapter and digest):
        return ()
    return (Adapter(student_name(digest), str(student.trained_by), digest),)


def _target(owner: RunRef, digest: str, *, adapter: bool) -> Target:
    return Target(student_name(digest) if adapter else owner.name, student=student_label(digest))


def config_map(owner: RunRef, config: RoutingConfig, group: ServerGroup = SERVING) -> dict[str, Any]:
    """Return the ConfigMap with the routing document, which all pods of a group mount."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(group.config_name(owner), group.component),
        "data": {_KEY: config.dump()},
    }


def feedback_settings(spec: Spec, group: ServerGroup) -> Feedback | None:
    """Return the feedback settings of a group's pods; None for pods that clients do not reach."""
    return spec.serving.feedback if group == SERVING else None


def routing_mount(owner: RunRef, group: ServerGroup = SERVING) -> Mount:
    """Return the mount of :func:`config_map`: a whole folder, for single files of a ConfigMap never change."""
    volume = {"name": "desired", "configMap": {"name": group.config_name(owner)}}
    return Mount(volume, f"{CONFIG}/desired", read_only=True)


def api_key_mounts(spec: Spec) -> list[Mount]:
    """Return the mount of the Secret with the API keys, if there is one."""
    reference = spec.serving.gateway.api_keys_secret_ref
    if reference is None:
        return []
    volume = {"name": "keys", "secret": {"secretName": reference.name, "defaultMode": 0o440}}
    return [Mount(volume, f"{CONFIG}/keys", read_only=True)]


def gateway_container(owner: RunRef, *, gpu: bool, settings: Settings, group: ServerGroup = SERVING) -> dict[str, Any]:
    """Return the container that clients reach. It finishes its requests, and ends before the servers behind it."""
    spec = owner.run.spec.serving.gateway
    denied = spec.denied_parameters
    if denied is None:
        denied = () if gpu else ("seed",)  # vLLM for CPUs ends at a batch of them
    environment = {
        "DISTILLERY_UPSTREAM_URL": f"http://127.0.0.1:{UPSTREAM_PORT}",
        "DISTILLERY_PORT": str(PORT),
        "DISTILLERY_ADMIN_PORT": str(ADMIN_PORT),
        "DISTILLERY_ROUTING_FILE": f"{routing_mount(owner).path}/{_KEY}",
        "DISTILLERY_DENIED_PARAMETERS": ",".join(denied),
        "DISTILLERY_LIMITS": spec.limits.model_dump_json(by_alias=True, exclude_defaults=True),
    }
    if group == CANARY:  # else copies of every pod's requests would be one key's requests in one pod
        environment["DISTILLERY_PER_KEY_LIMITS"] = "false"
    mounts = [routing_mount(owner, group), *(folder := api_key_mounts(owner.run.spec))]
    if folder:
        environment["DISTILLERY_API_KEYS_DIR"] = folder[0].path
    if feedback := feedback_settings(owner.run.spec, group):
        mounts.append(recorder.FOLDER)
        environment |= {
            "DISTILLERY_CAPTURE_DIR": recorder.FOLDER.path,
            "DISTILLERY_REDACT_PATTERNS": json.dumps(feedback.redact_patterns),
        }
    return container(
        "gateway",
        Image(settings.gateway_image, settings.image_pull_policy),
        ["python3", "-m", "distillery_gateway.main"],
        mounts=mounts,
        env=variables(environment),
        resources=_gateway_resources(spec.limits),
        ports=[
            {"name": "http", "containerPort": PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        readinessProbe={
            "httpGet": {"path": "/readyz", "port": ADMIN_PORT},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
        livenessProbe=liveness(ADMIN_PORT),
        lifecycle={"preStop": {"sleep": {"seconds": _LEAVE_SECONDS}}},
    )


def _gateway_resources(limits: GatewayLimits) -> Resources:
    """1 GiB does for all that bodies of the default's size take at once; larger ones take more."""
    mebibytes = 1024 + _MEMORY_OF_A_BODY * max(0, limits.max_body_bytes - _BODY_BYTES) // 2**20
    return Resources(
        requests={"cpu": "100m", "memory": "128Mi"},
        limits={"cpu": "2", "memory": f"{mebibytes}Mi"},
    )


def adapters_mount(*, read_only: bool) -> Mount:
    """Return the mount in which the syncer puts adapters for vLLM, which only reads them."""
    return Mount({"name": "adapters", "emptyDir": {}}, "/adapters", read_only=read_only)


def credential_mounts(spec: Spec) -> list[Mount]:
    """Return the mounts of the Secret that opens the store, if there is one."""
    return secret_mounts([spec.storage.credentials_secret_ref] if spec.storage.credentials_secret_ref else [])


def syncer_container(owner: RunRef, *, settings: Settings) -> dict[str, Any]:
    """Return the native sidecar that gives vLLM its adapters. It only reads the run's volume."""
    storage = owner.run.spec.storage
    files = artifacts(owner)
    environment = {
        "HOME": "/tmp",  # noqa: S108
        "DISTILLERY_UPSTREAM_URL": f"http://127.0.0.1:{UPSTREAM_PORT}",
        "DISTILLERY_GATEWAY": f"http://127.0.0.1:{ADMIN_PORT}",
        "DISTILLERY_ROUTING_FILE": f"{routing_mount(owner).path}/{_KEY}",
        "DISTILLERY_STORE_URI": store_uri(owner),
        "DISTILLERY_IDENTITY": str(owner.identity),
        "DISTILLERY_CACHE": ARTIFACTS,
        "DISTILLERY_ADAPTERS_DIR": adapters_mount(read_only=False).path,
        "DISTILLERY_SYNCER_PORT": str(SYNCER_PORT),
    }
    if storage.endpoint_url:
        environment["DISTILLERY_STORE_ENDPOINT_URL"] = storage.endpoint_url
    if storage.credentials_secret_ref:
        environment["AWS_SHARED_CREDENTIALS_FILE"] = secret_path(storage.credentials_secret_ref)
    return container(
        SYNCER,
        Image(settings.gateway_image, settings.image_pull_policy),
        ["python3", "-m", "distillery_gateway.syncer.main"],
        mounts=[
            routing_mount(owner),
            Mount(files.volume, files.path, read_only=storage.uri is None),
            adapters_mount(read_only=False),
            *credential_mounts(owner.run.spec),
        ],
        env=variables(environment),
        resources=_SYNCER_RESOURCES,
        ports=[{"name": SYNCER, "containerPort": SYNCER_PORT, "protocol": "TCP"}],
        livenessProbe=liveness(SYNCER_PORT),  # ready is who can answer, which the gateway knows
        restartPolicy="Always",
    )


def network_policy(owner: RunRef, settings: Settings, group: ServerGroup = SERVING) -> dict[str, Any]:
    """Return the policy: the gateway is open to all; other ports only to the operator and the collectors of metrics.

    A canary's gateway is reached by the gateways that clients reach, which report its traffic, so the operator never
    polls it.
    """
    if group != SERVING:
        gateways = {"podSelector": {"matchLabels": owner.selector(SERVING.component)}}
        metrics = [(settings.metrics_from, ADMIN_PORT)] if settings.metrics_from else []
        return ingress_policy(owner, group.config_name(owner), group.component, ([gateways], PORT), *metrics)
    operator = operator_peer(settings)
    return ingress_policy(
        owner,
        group.config_name(owner),
        group.component,
        ([], PORT),
        ([operator, *settings.metrics_from], ADMIN_PORT),
        ([operator], SYNCER_PORT),
        *([([operator], recorder.PORT)] if feedback_settings(owner.run.spec, group) else []),
    )
