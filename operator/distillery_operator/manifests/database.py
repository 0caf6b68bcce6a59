"""The quick-start database of a run that names none: one PostgreSQL with pgvector, and its password."""

from __future__ import annotations

import base64
from typing import Any

from distillery.core.api import GROUP
from distillery.core.api.base import SecretKey
from distillery_operator.manifests import placement
from distillery_operator.manifests.pods import Image, Mount, PodPart, container, pod, scratch, secret_mounts, variables
from distillery_operator.manifests.resources import DATABASE, complete
from distillery_operator.model.names import RunRef, ingress_policy
from distillery_operator.settings import Settings

COMPONENT = "database"
STOPPED_ANNOTATION = f"{GROUP}/stopped"
"""On a StatefulSet that was scaled to 0 because nothing needed it. It stays up if a user scales it up then."""

DSN_KEY = "dsn"
_PASSWORD_KEY = "password"  # noqa: S105 - the name of a key
_USER = 999  # of the official images
_PORT = 5432
_DATA = "/var/lib/postgresql/data"
_MINUTES_TO_START = 30  # a large log is replayed after a crash


_ALIVE = {
    # 1 is that it lets nobody in, which it says while it recovers
    "exec": {"command": ["sh", "-c", "pg_isready -q -U distillery -h 127.0.0.1; test $? -lt 2"]},
    "timeoutSeconds": 5,
}


def name(owner: RunRef) -> str:
    """Return the name of the StatefulSet, its Service and its Secret."""
    return f"{owner.name}-database"


def dsn_reference(owner: RunRef) -> SecretKey:
    """Return the Secret's key with the connection string: the user's, or the quick-start database's."""
    return owner.run.spec.database.dsn_secret_ref or SecretKey(name=name(owner), key=DSN_KEY)


def secret(owner: RunRef, password: str) -> dict[str, Any]:
    """Return the Secret with password and connection string. Created once; the operator never reads it back."""
    dsn = f"postgresql://distillery:{password}@{name(owner)}:{_PORT}/distillery"
    values = {_PASSWORD_KEY: password, DSN_KEY: dsn}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": owner.metadata(name(owner), COMPONENT),
        "immutable": True,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def service(owner: RunRef) -> dict[str, Any]:
    """Return the Service by whose name pods find the database."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(name(owner), COMPONENT),
        "spec": {
            "clusterIP": "None",
            "selector": owner.selector(COMPONENT),
            "ports": [{"name": "postgres", "port": _PORT, "targetPort": _PORT, "protocol": "TCP"}],
        },
    }


def stateful_set(owner: RunRef, settings: Settings, *, replicas: int = 1) -> dict[str, Any]:
    """Return the server. Its volume stays where ``replicas`` is 0: such a server is marked as stopped."""
    spec = owner.run.spec
    (password,) = secret_mounts([SecretKey(name=name(owner), key=_PASSWORD_KEY)])
    mounts = [
        scratch(),
        Mount({"name": "run", "emptyDir": {}}, "/var/run/postgresql"),
        password,
    ]
    server = container(
        "postgres",
        Image(settings.postgres_image, settings.image_pull_policy),
        ["docker-entrypoint.sh", "postgres"],
        mounts=[*mounts, Mount({"name": "data"}, _DATA)],
        env=variables(
            {
                "POSTGRES_USER": "distillery",
                "POSTGRES_DB": "distillery",
                "POSTGRES_PASSWORD_FILE": f"{password.path}/{_PASSWORD_KEY}",
                "PGDATA": f"{_DATA}/pgdata",
            }
        ),
        resources=complete(spec.database.resources, DATABASE),
        ports=[{"name": "postgres", "containerPort": _PORT, "protocol": "TCP"}],
        startupProbe={**_ALIVE, "periodSeconds": 5, "failureThreshold": _MINUTES_TO_START * 12},
        livenessProbe={**_ALIVE, "periodSeconds": 10, "failureThreshold": 6},
        readinessProbe={
            "exec": {"command": ["pg_isready", "-U", "distillery", "-h", "127.0.0.1"]},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
        },
    )
    claim: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "labels": owner.labels(COMPONENT)},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": spec.database.size}},
            **(
                {"storageClassName": spec.storage.volume_claim.storage_class_name}
                if spec.storage.volume_claim.storage_class_name is not None
                else {}
            ),
        },
    }
    metadata = owner.metadata(name(owner), COMPONENT)
    if not replicas:
        metadata["annotations"] = {STOPPED_ANNOTATION: "true"}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "serviceName": name(owner),
            "selector": {"matchLabels": owner.selector(COMPONENT)},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
            "template": pod(
                owner,
                PodPart(containers=(server,), mounts=tuple(mounts), labels=owner.labels(COMPONENT)),
                placement.database_pods(owner, settings),
                settings,
                user=_USER,
                terminationGracePeriodSeconds=60,
            ),
            "volumeClaimTemplates": [claim],
        },
    }


def network_policy(owner: RunRef) -> dict[str, Any]:
    """Return the policy: only the run's stages reach the database, and pods that serve with a recorder."""
    components = ["stage", *(["serving"] if owner.run.spec.serving.feedback else [])]
    peers = [{"podSelector": {"matchLabels": owner.selector(component)}} for component in components]
    return ingress_policy(owner, name(owner), COMPONENT, (peers, _PORT))
