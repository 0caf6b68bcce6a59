"""The gateway, the syncer and their routing document: everything between clients and a served student's vLLM."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from distillery.core.api import Spec
from distillery.core.api.spec.feedback import Feedback
from distillery.core.api.spec.infrastructure import Resources
from distillery.core.api.spec.serving import GatewayLimits
from distillery.core.planner import Model
from distillery.core.served_models import student_name
from distillery_operator.manifests import names, recorder
from distillery_operator.manifests.names import RunRef, ingress_policy, student_label
from distillery_operator.manifests.pods import (
    ARTIFACTS,
    CONFIG,
    Mount,
    artifacts,
    container,
    liveness,
    operator_peer,
    secret_path,
    secrets,
    store_uri,
)
from distillery_operator.settings import Settings

PORT = 8000
UPSTREAM_PORT = 8001
ADMIN_PORT = 8002
SYNCER = "syncer"
SYNCER_PORT = 8003
GENERATION = "distillery.dev/routing-generation"
"""Annotation of a serving pod: a change of it lets the kubelet look at the pod's files at once."""

_KEY = "desired"
_DRAIN_SECONDS = 110  # what is under way may take so long: the gateway's own limit
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
class Site:
    """Servers of a run.

    Attributes:
        component: the label of their pods.
        suffix: of the names of their Deployment and Service.
    """

    component: str
    suffix: str = ""

    def named(self, owner: RunRef) -> str:
        """Return the name of the Deployment and the Service."""
        return owner.name + self.suffix

    def settings(self, owner: RunRef) -> str:
        """Return the name of the ConfigMap with what is to be served, and of the NetworkPolicy."""
        return f"{owner.name}-{self.component}"


SERVING = Site("serving")
"""Those that clients reach."""

CANARY = Site("canary", "-canary")
"""The servers of a canary, if weights are merged and one vLLM can't hold two students."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """The student that gets a share of the requests, or copies of them.

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


def desired(
    owner: RunRef, student: Model, digest: str, *, adapter: bool, newcomer: Newcomer | None = None
) -> dict[str, Any]:
    """Return the routing document of every pod's gateway and syncer, as ``distillery_gateway.routing`` reads it.

    Args:
        owner: the run.
        student: the stable student.
        digest: of its adapter; empty for the base model.
        adapter: served as an adapter of the base model. Else each pod holds one model, under the run's name.
        newcomer: the canary, if there is one.
    """
    adapters, targets = _held(student, digest, adapter=adapter), [_target(owner, digest, adapter=adapter)]
    wanted: dict[str, Any] = {"adapters": adapters, "aliases": {owner.name: targets}}
    if newcomer:
        wanted |= {"step": newcomer.step, "maxFirstTokenSeconds": newcomer.max_first_token_seconds}
        adapters += _held(newcomer.student, newcomer.digest, adapter=adapter)
        target = _target(owner, newcomer.digest, adapter=adapter)
        if not adapter:
            target["upstream"] = f"http://{CANARY.named(owner)}.{owner.namespace}.svc:{PORT}"
        if newcomer.weight:
            targets[0]["weight"] = 100 - newcomer.weight
            targets.append({**target, "weight": newcomer.weight})  # the last: its share grows and keeps who is in it
        else:
            wanted["shadows"] = {owner.name: target}
    # told from others by what it says: nothing has to be counted, and nothing can be counted twice
    return {"generation": int(names.digest(wanted), 16) or 1, **wanted}


def _held(student: Model, digest: str, *, adapter: bool) -> list[dict[str, str]]:
    if not (adapter and digest):
        return []
    return [{"name": student_name(digest), "artifact": str(student.trained_by), "digest": digest}]


def _target(owner: RunRef, digest: str, *, adapter: bool) -> dict[str, Any]:
    return {"model": student_name(digest) if adapter else owner.name, "student": student_label(digest)}


def config_map(owner: RunRef, wanted: dict[str, Any], site: Site = SERVING) -> dict[str, Any]:
    """Return the ConfigMap that all pods of a site mount: what is to be served."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(site.settings(owner), site.component),
        "data": {_KEY: json.dumps(wanted)},
    }


def kept(spec: Spec, site: Site) -> Feedback | None:
    """Return the feedback settings of a site's pods; None for pods that clients do not reach."""
    return spec.serving.feedback if site == SERVING else None


def told(owner: RunRef, site: Site = SERVING) -> Mount:
    """Return the mount of :func:`config_map`: a whole folder, for single files of a ConfigMap never change."""
    volume = {"name": "desired", "configMap": {"name": site.settings(owner)}}
    return Mount(volume, f"{CONFIG}/desired", read_only=True)


def keys(spec: Spec) -> list[Mount]:
    """Return the mount of the Secret with the API keys, if there is one."""
    reference = spec.serving.gateway.api_keys_secret_ref
    if reference is None:
        return []
    volume = {"name": "keys", "secret": {"secretName": reference.name, "defaultMode": 0o440}}
    return [Mount(volume, f"{CONFIG}/keys", read_only=True)]


def gateway(owner: RunRef, *, gpu: bool, settings: Settings, site: Site = SERVING) -> dict[str, Any]:
    """Return the container that clients reach. It finishes its requests, and ends before the servers behind it."""
    spec = owner.run.spec.serving.gateway
    denied = spec.denied_parameters
    if denied is None:
        denied = () if gpu else ("seed",)  # vLLM for CPUs ends at a batch of them
    environment = {
        "DISTILLERY_UPSTREAM_URL": f"http://127.0.0.1:{UPSTREAM_PORT}",
        "DISTILLERY_PORT": str(PORT),
        "DISTILLERY_ADMIN_PORT": str(ADMIN_PORT),
        "DISTILLERY_ROUTING_FILE": f"{told(owner).path}/{_KEY}",
        "DISTILLERY_DENIED_PARAMETERS": ",".join(denied),
        "DISTILLERY_LIMITS": spec.limits.model_dump_json(by_alias=True, exclude_defaults=True),
    }
    if site == CANARY:  # else copies of every pod's requests would be one key's requests in one pod
        environment["DISTILLERY_PER_KEY_LIMITS"] = "false"
    mounts = [told(owner, site), *(folder := keys(owner.run.spec))]
    if folder:
        environment["DISTILLERY_API_KEYS_DIR"] = folder[0].path
    if feedback := kept(owner.run.spec, site):
        mounts.append(recorder.FOLDER)
        environment |= {
            "DISTILLERY_CAPTURE_DIR": recorder.FOLDER.path,
            "DISTILLERY_REDACT_PATTERNS": json.dumps(feedback.redact_patterns),
        }
    return container(
        "gateway",
        settings.gateway_image,
        ["python3", "-m", "distillery_gateway.main"],
        mounts=mounts,
        pull_policy=settings.image_pull_policy,
        environment=environment,
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


def adapters(*, read_only: bool) -> Mount:
    """Return the mount in which the syncer puts adapters for vLLM, which only reads them."""
    return Mount({"name": "adapters", "emptyDir": {}}, "/adapters", read_only=read_only)


def credentials(spec: Spec) -> list[Mount]:
    """Return the mounts of the Secret that opens the store, if there is one."""
    return secrets([spec.storage.credentials_secret_ref] if spec.storage.credentials_secret_ref else [])


def syncer(owner: RunRef, *, settings: Settings) -> dict[str, Any]:
    """Return the native sidecar that gives vLLM its adapters. It only reads the run's volume."""
    storage = owner.run.spec.storage
    files = artifacts(owner)
    environment = {
        "HOME": "/tmp",  # noqa: S108
        "DISTILLERY_UPSTREAM_URL": f"http://127.0.0.1:{UPSTREAM_PORT}",
        "DISTILLERY_GATEWAY": f"http://127.0.0.1:{ADMIN_PORT}",
        "DISTILLERY_ROUTING_FILE": f"{told(owner).path}/{_KEY}",
        "DISTILLERY_STORE_URI": store_uri(owner),
        "DISTILLERY_IDENTITY": str(owner.identity),
        "DISTILLERY_CACHE": ARTIFACTS,
        "DISTILLERY_ADAPTERS_DIR": adapters(read_only=False).path,
        "DISTILLERY_SYNCER_PORT": str(SYNCER_PORT),
    }
    if storage.endpoint_url:
        environment["DISTILLERY_STORE_ENDPOINT_URL"] = storage.endpoint_url
    if storage.credentials_secret_ref:
        environment["AWS_SHARED_CREDENTIALS_FILE"] = secret_path(storage.credentials_secret_ref)
    return container(
        SYNCER,
        settings.gateway_image,
        ["python3", "-m", "distillery_gateway.syncer.main"],
        mounts=[
            told(owner),
            Mount(files.volume, files.path, read_only=storage.uri is None),
            adapters(read_only=False),
            *credentials(owner.run.spec),
        ],
        pull_policy=settings.image_pull_policy,
        environment=environment,
        resources=_SYNCER_RESOURCES,
        ports=[{"name": SYNCER, "containerPort": SYNCER_PORT, "protocol": "TCP"}],
        livenessProbe=liveness(SYNCER_PORT),  # ready is who can answer, which the gateway knows
        restartPolicy="Always",
    )


def network_policy(owner: RunRef, settings: Settings, site: Site = SERVING) -> dict[str, Any]:
    """Return the policy: the gateway is open to all; other ports only to the operator and the collectors of metrics.

    A canary's gateway is reached by the gateways that clients reach, which report its traffic, so the operator never
    polls it.
    """
    if site != SERVING:
        gateways = {"podSelector": {"matchLabels": owner.selector(SERVING.component)}}
        metrics = [(settings.metrics_from, ADMIN_PORT)] if settings.metrics_from else []
        return ingress_policy(owner, site.settings(owner), site.component, ([gateways], PORT), *metrics)
    operator = operator_peer(settings)
    return ingress_policy(
        owner,
        site.settings(owner),
        site.component,
        ([], PORT),
        ([operator, *settings.metrics_from], ADMIN_PORT),
        ([operator], SYNCER_PORT),
        *([([operator], recorder.PORT)] if kept(owner.run.spec, site) else []),
    )
