"""Volumes of the default class, as a storage driver would give them."""

from __future__ import annotations

from typing import Any

from hack.testbed import node
from hack.testbed.client.kubectl import Kubectl, eventually
from hack.testbed.client.workloads import claim, pod, python
from hack.testbed.machine import processes
from hack.testbed.places import Places
from tests.testbed.conftest import require_node

require_node()

MOUNT = [{"name": "data", "mountPath": "/data"}]


def user_of(name: str, code: str, *, claims: str = "data", **fields: Any) -> dict[str, Any]:
    """A pod with the volume of a claim at /data."""
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claims}}]
    return pod(name, python("c", code, volumeMounts=MOUNT), volumes=volumes, **fields)


def succeeds(kubectl: Kubectl, made: dict[str, Any]) -> str:
    kubectl.apply(made)
    name = made["metadata"]["name"]
    kubectl.wait(f"pod/{name}", "jsonpath={.status.phase}", "Succeeded")
    return kubectl("logs", name).strip()


def test_claim_waits_for_its_first_pod(kubectl: Kubectl):
    kubectl.apply(claim("data"))
    eventually(
        "the event", lambda: "WaitForFirstConsumer" in kubectl("get", "events", "--output=custom-columns=R:.reason")
    )
    assert kubectl.get("pvc", "data")["status"]["phase"] == "Pending"


def test_volume_is_shared_by_pods_when_their_user_is_not_root(kubectl: Kubectl):
    kubectl.apply(claim("data"))
    succeeds(kubectl, user_of("writer", "open('/data/f', 'w').write('kept')"))
    assert succeeds(kubectl, user_of("reader", "print(open('/data/f').read())")) == "kept"


def test_pod_may_not_write_when_it_has_no_fs_group(kubectl: Kubectl):
    made = user_of("writer", "open('/data/f', 'w')")
    del made["spec"]["securityContext"]["fsGroup"]
    kubectl.apply(claim("data"), made)
    kubectl.wait("pod/writer", "jsonpath={.status.phase}", "Failed")
    assert "Permission denied: '/data/f'" in kubectl("logs", "writer")


def test_released_volume_is_deleted_with_its_folder(kubectl: Kubectl, places: Places):
    kubectl.apply(claim("data"))
    succeeds(kubectl, user_of("writer", "open('/data/f', 'w')"))
    volume = kubectl.get("pvc", "data")["spec"]["volumeName"]
    assert (places.volumes / volume / "f").exists()
    kubectl("delete", "pod", "writer")
    kubectl("delete", "pvc", "data")
    eventually("the volume is gone", lambda: volume not in kubectl("get", "pv", "--output=name"))
    eventually("the folder is gone", lambda: not (places.volumes / volume).exists())


def test_claim_gets_a_volume_when_made_while_the_provisioner_was_dead(kubectl: Kubectl, places: Places):
    processes.stop("provisioner")
    kubectl.apply(claim("data"), user_of("writer", "open('/data/f', 'w')"))
    eventually("the node is chosen", lambda: "selected-node" in str(kubectl.get("pvc", "data")["metadata"]))
    node.up(places)
    kubectl.wait("pod/writer", "jsonpath={.status.phase}", "Succeeded")
