"""The recorder of users' sessions, and the folder that the gateway fills and the recorder empties."""

from __future__ import annotations

from typing import Any

from distillery.core.api.spec.feedback import Feedback
from distillery.core.api.spec.infrastructure import Resources
from distillery_operator.manifests import database
from distillery_operator.manifests.pods import (
    Image,
    Mount,
    container,
    liveness,
    scratch,
    secret_mounts,
    secret_path,
    variables,
)
from distillery_operator.model.names import RunRef

NAME = "recorder"
PORT = 8004
FOLDER = Mount({"name": "capture", "emptyDir": {"sizeLimit": "256Mi"}}, "/capture")
"""The folder that gateway and recorder share. The gateway uses at most a quarter: a full volume would end the pod."""

_RESOURCES = Resources(
    requests={"cpu": "20m", "memory": "128Mi"},
    limits={"cpu": "1", "memory": "512Mi"},
)


def credentials(owner: RunRef) -> Mount:
    """Return the mount of the database's credentials, for the recorder alone. No other volume has its name."""
    (mount,) = secret_mounts([database.dsn_reference(owner)])
    return Mount({**mount.volume, "name": "dsn"}, mount.path, read_only=True)


def recorder(owner: RunRef, feedback: Feedback, *, image: Image) -> dict[str, Any]:
    """Return the native sidecar of pods that keep something. Nothing waits for it: they serve without the database."""
    return container(
        NAME,
        image,
        ["python", "-m", "distillery.serving.recorder"],
        mounts=[scratch(), FOLDER, credentials(owner)],
        env=variables(
            {
                "HOME": "/tmp",  # noqa: S108
                "DISTILLERY_DATABASE_URL_FILE": secret_path(database.dsn_reference(owner)),
                "DISTILLERY_RUN": owner.run.key,
                "DISTILLERY_CAPTURE_DIR": FOLDER.path,
                "DISTILLERY_RETENTION_DAYS": str(feedback.retention_days),
                "DISTILLERY_MAX_SESSIONS": str(feedback.max_sessions),
                "DISTILLERY_RECORDER_PORT": str(PORT),
            }
        ),
        resources=_RESOURCES,
        ports=[{"name": NAME, "containerPort": PORT, "protocol": "TCP"}],
        livenessProbe=liveness(PORT),
        restartPolicy="Always",
    )
