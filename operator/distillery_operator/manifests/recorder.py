"""What keeps users' episodes: the folder that the gateway fills, and the recorder beside it, which empties it."""

from __future__ import annotations

from typing import Any

from distillery.api import Spec
from distillery.api.infrastructure import Resources
from distillery_operator.manifests import database
from distillery_operator.manifests.names import Owner
from distillery_operator.manifests.pods import Mount, container, scratch, secret_path, secrets
from distillery_operator.settings import Settings

NAME = "recorder"
PORT = 8004
HISTORY = "history"
"""Key of the ConfigMap with what is to be served: what was."""

_SIZE = "256Mi"  # the gateway keeps to a quarter of it: a volume that is full ends the pod
_RESOURCES = Resources(
    requests={"cpu": "20m", "memory": "128Mi"},
    limits={"cpu": "1", "memory": "512Mi"},
)


def folder(spec: Spec) -> list[Mount]:
    """What gateway and recorder share, if anything is kept."""
    if spec.promotion.service.feedback is None:
        return []
    return [Mount({"name": "capture", "emptyDir": {"sizeLimit": _SIZE}}, "/capture")]


def credentials(owner: Owner) -> list[Mount]:
    """The way into the database, which the recorder alone is given. No other Secret's volume is called so."""
    if owner.run.spec.promotion.service.feedback is None:
        return []
    (mount,) = secrets([database.dsn_reference(owner)])
    return [Mount({**mount.volume, "name": "dsn"}, mount.path, read_only=True)]


def recorder(owner: Owner, told: Mount, *, settings: Settings) -> list[dict[str, Any]]:
    """The native sidecar, if anything is kept. ``told`` is what the operator tells the pod.

    Nothing waits for it: a pod serves whether the database is there or not.
    """
    spec = owner.run.spec
    feedback = spec.promotion.service.feedback
    if feedback is None:
        return []
    shared = folder(spec)
    return [
        container(
            NAME,
            spec.pods.image or settings.pipeline_image,
            ["python", "-m", "distillery.serving.recorder"],
            mounts=[scratch(), told, *shared, *credentials(owner)],
            pull_policy=settings.image_pull_policy,
            environment={
                "HOME": "/tmp",  # noqa: S108
                "DISTILLERY_DATABASE_FILE": secret_path(database.dsn_reference(owner)),
                "DISTILLERY_RUN": owner.run.key,
                "DISTILLERY_CAPTURE": shared[0].path,
                "DISTILLERY_HISTORY": f"{told.path}/{HISTORY}",
                "DISTILLERY_RETENTION_DAYS": str(feedback.retention_days),
                "DISTILLERY_MAX_SESSIONS": str(feedback.max_sessions),
                "DISTILLERY_RECORDER_PORT": str(PORT),
            },
            resources=_RESOURCES,
            ports=[{"name": NAME, "containerPort": PORT, "protocol": "TCP"}],
            livenessProbe={
                "httpGet": {"path": "/healthz", "port": PORT},
                "periodSeconds": 10,
                "timeoutSeconds": 5,
                "failureThreshold": 6,
            },
            restartPolicy="Always",
        )
    ]
