"""A run whose artifacts lie in S3 needs no volume, and its student comes from there to the servers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from tests.e2e.cluster import Cluster, Namespace
from tests.e2e.conftest import ROOT
from tests.e2e.documents import small
from tests.e2e.test_loop import ask, assert_ended_as_undisturbed

KEY, SECRET = "distillery", "not-much-of-a-secret"
CREDENTIALS = f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"


def image(cluster: Cluster, folder: Path) -> str:
    """Of versitygw: the one of $E2E_S3_IMAGE, or one made here."""
    if cluster.context:
        return os.environ.get("E2E_S3_IMAGE", "ghcr.io/versity/versitygw:v1.8.0")
    from tests.cluster import images
    from tests.cluster.places import Places

    places, tag = Places.from_environment(), "distillery/versitygw:1.8.0"
    shutil.copy(places.bin / "versitygw", folder)
    images.build(places, ROOT / "tests/e2e/s3/Dockerfile", folder, tag)
    images.load(places, tag)
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


def test_artifacts_may_lie_in_s3(team: Namespace, tmp_path: Path):
    for manifest in server(image(team.cluster, tmp_path)):
        team.apply(manifest)
    team.kubectl("wait", "pod/s3", "--for=condition=Ready", "--timeout=300s")
    storage = {
        "uri": "s3://runs/distillery",
        "endpointURL": "http://s3:7070",
        "credentialsSecretRef": {"name": "s3", "key": "credentials"},
    }
    team.apply(small(storage=storage))
    team.wait_for("the end", lambda: team.condition("small", "Complete").get("status") == "True", run="small")
    assert_ended_as_undisturbed(team, "small")
    names = [claim["metadata"]["name"] for claim in team.list("persistentvolumeclaims")]
    assert names == ["data-small-database-0"]
    stored = team.kubectl("exec", "s3", "--", "find", "/data/runs", "-name", "result.json").split()
    assert len(stored) == len(team.status("small")["stages"])
    if team.status("small")["rounds"][0]["promoted"]:
        assert ask(team, "small")
