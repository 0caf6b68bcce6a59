"""Volumes for claims of the storage class ``local``: a folder of the node for each.

It stands where a storage driver stands in a real cluster, and keeps to what one does: a claim waits for its first pod
(WaitForFirstConsumer), a volume begins empty and root's own, and the kubelet gives it to a pod's ``fsGroup``. So the
volumes are of kind ``local``; for ``hostPath`` the kubelet ignores fsGroup, and a pod that lacks one would look well
here and fail on a real disk. `node.up` runs this file as one of the node's processes.

It only compares what is with what should be: an event is a reason to compare again, so events may get lost and the
process may be killed anywhere.
"""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.testbed.client.api import Api, ApiError
from hack.testbed.places import NODE_NAME, Places

STORAGE_CLASS = "local"
PROVISIONER = "distillery.dev/folder"

_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_MODE = 0o755  # root's, like the file system of a new disk
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is to be done so that every claim has a volume and no volume is left over."""

    create: tuple[dict[str, Any], ...]
    """Volumes for claims whose pod was scheduled."""
    delete: tuple[str, ...]
    """Names of volumes whose claim is gone."""
    remove: tuple[str, ...]
    """Folders without a volume."""


def plan(claims: Iterable[dict[str, Any]], volumes: Iterable[dict[str, Any]], folders: Iterable[str]) -> Plan:
    """Compare claims, volumes and folders. Volumes of other provisioners are none of our business."""
    ours = {
        volume["metadata"]["name"]: volume
        for volume in volumes
        if volume["metadata"].get("annotations", {}).get(_PROVISIONED_BY) == PROVISIONER
    }
    wanted = {_name(claim): claim for claim in claims if _waits(claim)}
    released = tuple(name for name, volume in ours.items() if volume.get("status", {}).get("phase") == "Released")
    return Plan(
        create=tuple(claim for name, claim in wanted.items() if name not in ours),
        delete=released,
        remove=tuple(folder for folder in folders if folder not in ours and folder not in wanted),
    )


def _waits(claim: dict[str, Any]) -> bool:
    spec, metadata = claim["spec"], claim["metadata"]
    return (
        spec.get("storageClassName") == STORAGE_CLASS
        and not spec.get("volumeName")
        and metadata.get("annotations", {}).get(_SELECTED_NODE) == NODE_NAME
        and "deletionTimestamp" not in metadata
    )


def _name(claim: dict[str, Any]) -> str:
    return f"pvc-{claim['metadata']['uid']}"  # as Kubernetes' own provisioners name them


def volume_for(claim: dict[str, Any], path: Path) -> dict[str, Any]:
    """The PersistentVolume of a claim: bound to it from the start, so that no other claim can take it."""
    metadata, spec = claim["metadata"], claim["spec"]
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": _name(claim), "annotations": {_PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "storageClassName": STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Delete",
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }


def reconcile(api: Api, folder: Path) -> None:
    """Carry out a plan. A folder is made before its volume and removed after the claim let go of it."""
    # the volumes are read last: a claim that was bound meanwhile then has its volume in the list
    claims = api.get(_CLAIMS)["items"]
    volumes = api.get(_VOLUMES)["items"]
    todo = plan(claims, volumes, [path.name for path in folder.iterdir()])
    for name in todo.remove:
        _log.info("removing folder %s", name)
        shutil.rmtree(folder / name)
    for claim in todo.create:
        path = folder / _name(claim)
        _log.info("creating %s for %s/%s", path.name, claim["metadata"]["namespace"], claim["metadata"]["name"])
        path.mkdir(exist_ok=True)
        path.chmod(_MODE)  # whatever the umask is
        api.create(_VOLUMES, volume_for(claim, path))
    for name in todo.delete:
        _log.info("deleting %s", name)
        shutil.rmtree(folder / name, ignore_errors=True)
        api.delete(f"{_VOLUMES}/{name}")


def _ring(api: Api, path: str, bell: threading.Event) -> None:
    while True:
        try:
            for _ in api.watch(path):
                bell.set()
        except ApiError as error:
            _log.info("watching %s: %s", path, error)
        time.sleep(1)  # the server restarts, or is about to


def main() -> None:
    """Reconcile whenever claims or volumes change, and twice a minute."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    places, bell = Places(Path(sys.argv[1])), threading.Event()
    api = Api(places, "provisioner")
    for path in (_CLAIMS, _VOLUMES):
        threading.Thread(target=_ring, args=(api, path, bell), daemon=True).start()
    while True:
        try:
            reconcile(api, places.volumes)
        except ApiError as error:
            _log.info("%s", error)
            time.sleep(1)
            continue
        bell.wait(timeout=30)
        bell.clear()


if __name__ == "__main__":
    main()
