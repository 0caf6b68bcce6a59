"""Pods as sums of parts, and the parts that all pods of a run share: identity, security, placement, and mounts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from distillery.core.api import Spec
from distillery.core.api.base import SecretKey
from distillery.core.api.spec.infrastructure import PodTemplate, Resources
from distillery_operator.model.names import RunRef
from distillery_operator.settings import Settings

ARTIFACTS = "/artifacts"
CONFIG = "/etc/distillery"
SECRETS = "/var/run/distillery/secrets"
_MODELS = f"{ARTIFACTS}/.models"
_MODEL_CACHE = "/model-cache"

USER = 65532
"""An unprivileged user: the user and group of every container, unless the platform assigns them."""

_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume and where containers see it."""

    volume: Mapping[str, Any]
    path: str
    read_only: bool = False

    def in_container(self) -> dict[str, Any]:
        """Return the mount as a container lists it."""
        mounted = {"name": self.volume["name"], "mountPath": self.path}
        return {**mounted, "readOnly": True} if self.read_only else mounted


@dataclass(frozen=True, slots=True)
class Image:
    """An image, and when nodes pull it."""

    name: str
    pull_policy: str


@dataclass(frozen=True, slots=True)
class PodPart:
    """The contribution of one program to a pod. A pod is the sum of its parts.

    Attributes:
        containers: those that run side by side.
        init_containers: those that run before them, sidecars included.
        mounts: the volumes that the containers need. Parts can share a volume.
        labels: of the pod.
    """

    containers: tuple[dict[str, Any], ...] = ()
    init_containers: tuple[dict[str, Any], ...] = ()
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: PodPart) -> PodPart:
        """Return both parts, with a volume that they share once."""
        names = {mount.volume["name"] for mount in self.mounts}
        return PodPart(
            self.containers + other.containers,
            self.init_containers + other.init_containers,
            self.mounts + tuple(mount for mount in other.mounts if mount.volume["name"] not in names),
            {**self.labels, **other.labels},
        )


def container(
    name: str, image: Image, command: Iterable[str], *, mounts: Iterable[Mount], resources: Resources, **more: Any
) -> dict[str, Any]:
    """Return a container under ``restricted`` pod security, on a read-only root.

    Args:
        name: of the container.
        image: of the container.
        command: with its arguments.
        mounts: volumes, and where the container sees them.
        resources: requests and limits.
        more: other fields of the container, as Kubernetes has them.
    """
    return {
        "name": name,
        "image": image.name,
        "imagePullPolicy": image.pull_policy,
        "command": list(command),
        "volumeMounts": [mount.in_container() for mount in mounts],
        "resources": {"requests": dict(resources.requests), "limits": dict(resources.limits)},
        "securityContext": _CONTAINER_SECURITY,
        **more,
    }


def variables(environment: Mapping[str, str]) -> list[dict[str, str]]:
    """Return environment variables as a container lists them."""
    return [{"name": key, "value": value} for key, value in environment.items()]


def pod(
    owner: RunRef, part: PodPart, placement: PodTemplate, settings: Settings, *, user: int = USER, **more: Any
) -> dict[str, Any]:
    """Return a pod template.

    Args:
        owner: the run.
        part: the sum of all parts of the pod.
        placement: the user's settings of the pod.
        settings: the operator's.
        user: the user and group of its containers, unless the platform assigns them.
        more: other fields of the pod, as Kubernetes has them.
    """
    ids = {"runAsUser": user, "runAsGroup": user, "fsGroup": user}
    spec: dict[str, Any] = {
        "serviceAccountName": placement.service_account_name or owner.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            **({} if settings.platform_assigns_ids else ids),
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": list(part.init_containers),
        "containers": list(part.containers),
        "volumes": [dict(mount.volume) for mount in part.mounts],
        "nodeSelector": dict(placement.node_selector),
        "tolerations": [t.model_dump(by_alias=True, exclude_none=True) for t in placement.tolerations],
        "imagePullSecrets": [{"name": secret.name} for secret in placement.image_pull_secrets],
        "affinity": dict(placement.affinity),
        "runtimeClassName": placement.runtime_class_name,
        "priorityClassName": placement.priority_class_name,
        **more,
    }
    return {
        "metadata": {"labels": dict(part.labels)},
        "spec": {key: value for key, value in spec.items() if value not in (None, [], {})},
    }


def claim_name(owner: RunRef) -> str:
    """Return the name of the volume claim with the run's artifacts."""
    return f"{owner.name}-artifacts"


def store_uri(owner: RunRef) -> str:
    """Return the part of the artifacts' URI that all runs of this name share, as pods see it."""
    uri = owner.run.spec.storage.uri
    return f"{uri.rstrip('/')}/{owner.run.key}" if uri else f"file://{ARTIFACTS}"


def artifact_folder(owner: RunRef) -> str:
    """Return the folder of the run's artifacts in its servers."""
    return f"{ARTIFACTS}/{owner.identity.key}"


def artifacts(owner: RunRef) -> Mount:
    """Return the mount of the run's artifacts: the claim, or a place for copies of what lies in S3."""
    if owner.run.spec.storage.uri:
        return Mount({"name": "artifacts", "emptyDir": {}}, ARTIFACTS)
    return Mount({"name": "artifacts", "persistentVolumeClaim": {"claimName": claim_name(owner)}}, ARTIFACTS)


def model_cache(owner: RunRef) -> list[Mount]:
    """Return the mount of the volume of base models, if they have one of their own."""
    cache = owner.run.spec.storage.model_cache
    if cache is None:
        return []
    return [Mount({"name": "models", "persistentVolumeClaim": {"claimName": cache.claim_name}}, _MODEL_CACHE)]


def scratch() -> Mount:
    """Return the mount for the files that a program writes besides its results."""
    return Mount({"name": "tmp", "emptyDir": {}}, "/tmp")  # noqa: S108 - a volume of the pod's own


def shared_memory() -> Mount:
    """Return the mount for the shared memory of torch's processes; the default of 64 MiB is too little."""
    return Mount({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}, "/dev/shm")  # noqa: S108


def secret_mounts(references: Iterable[SecretKey]) -> list[Mount]:
    """Return mounts that hold each key of a Secret as the file ``SECRETS/<name>/<key>``."""
    keys: dict[str, list[str]] = {}
    for reference in references:
        mounted = keys.setdefault(reference.name, [])
        if reference.key not in mounted:
            mounted.append(reference.key)
    return [
        Mount(
            {
                "name": f"secret-{number}",
                "secret": {
                    "secretName": name,
                    "defaultMode": 0o440,
                    "items": [{"key": key, "path": key} for key in names],
                },
            },
            f"{SECRETS}/{name}",
            read_only=True,
        )
        for number, (name, names) in enumerate(keys.items())
    ]


def secret_path(reference: SecretKey) -> str:
    """Return the path to which :func:`secret_mounts` mounts a key."""
    return f"{SECRETS}/{reference.name}/{reference.key}"


def common_environment(spec: Spec) -> dict[str, str]:
    """Return the environment that all containers of ours share: homes for caches, and how to reach the artifacts."""
    environment = {
        "HOME": "/tmp",  # noqa: S108
        "DISTILLERY_CACHE": "/tmp/cache",  # noqa: S108
        "DISTILLERY_SECRETS": SECRETS,
        "HF_HOME": _MODEL_CACHE if spec.storage.model_cache else _MODELS,
    }
    if spec.storage.credentials_secret_ref:
        environment["AWS_SHARED_CREDENTIALS_FILE"] = secret_path(spec.storage.credentials_secret_ref)
    return environment


def pipeline_image(placement: PodTemplate, settings: Settings) -> Image:
    """Return the image of the programs that run the pipeline's code: the user's, or the release's."""
    return Image(placement.image or settings.pipeline_image, settings.image_pull_policy)


def liveness(port: int) -> dict[str, Any]:
    """Return the probe of a container that answers at /healthz; one that is only busy is given a minute."""
    return {
        "httpGet": {"path": "/healthz", "port": port},
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": 6,
    }


def operator_peer(settings: Settings) -> dict[str, Any]:
    """Return the operator, as a peer of a NetworkPolicy."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "distillery-operator"}},
    }
