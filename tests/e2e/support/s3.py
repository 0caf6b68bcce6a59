"""A real S3 server in a namespace."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from tests.e2e import caps
from tests.e2e.support.cluster import Cluster

KEY, SECRET = "distillery", "not-much-of-a-secret"
STORAGE = {
    "uri": "s3://runs/distillery",
    "endpointURL": "http://s3:7070",
    "credentialsSecretRef": {"name": "s3", "key": "credentials"},
}
CREDENTIALS = f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"


def image(cluster: Cluster, folder: Path) -> str:
    """Of versitygw: the one of $E2E_S3_IMAGE, or one made here."""
    if cluster.context:
        return os.environ.get("E2E_S3_IMAGE", "ghcr.io/versity/versitygw:v1.8.0")
    from hack.testbed.images import builder
    from hack.testbed.places import Places

    caps.BUILDS.count("versitygw")
    places, tag = Places.from_environment(), "distillery/versitygw:1.8.0"
    shutil.copy(places.bin / "versitygw", folder)
    builder.build(places, builder.Source(Path(__file__).with_name("s3.Dockerfile"), folder), tag)
    builder.load(places, tag)
    return tag


def server(image: str) -> list[dict[str, Any]]:
    """An S3 server with a bucket ``runs``, and the Secret with its keys."""
    labels = {"app": "s3"}
    container = {
        "name": "s3",
        "image": image,
        "command": ["sh", "-c", "mkdir -p /data/runs && exec versitygw --port :7070 posix /data"],
        "env": [{"name": "ROOT_ACCESS_KEY", "value": KEY}, {"name": "ROOT_SECRET_KEY", "value": SECRET}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"tcpSocket": {"port": 7070}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec = {"securityContext": security, "containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "s3", "labels": labels}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "s3"},
            "spec": {"selector": labels, "ports": [{"port": 7070}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s3"},
            "stringData": {"credentials": CREDENTIALS},
        },
    ]
