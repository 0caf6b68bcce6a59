"""What an operator relies on works as in any cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from typing import Any

import pytest

from hack.testbed.client import audit
from hack.testbed.client.api import Api
from hack.testbed.client.kubectl import Kubectl, eventually
from hack.testbed.client.workloads import container, pod, pod_spec, python
from hack.testbed.control_plane import components
from hack.testbed.places import NODE_NAME, Places
from tests.testbed.conftest import require_node

require_node()

SERVE = "from http.server import *; ThreadingHTTPServer(('', 8080), SimpleHTTPRequestHandler).serve_forever()"
ASK = "import os, urllib.request as r; print(os.environ['JOB_COMPLETION_INDEX'], r.urlopen('http://{}:8080/').status)"


def test_indexed_job_with_a_native_sidecar_completes(kubectl: Kubectl):
    sidecar = python(
        "server",
        SERVE,
        restartPolicy="Always",
        startupProbe={"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "failureThreshold": 60},
    )
    template = {"spec": pod_spec(python("ask", ASK.format("localhost")), initContainers=[sidecar])}
    spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 0, "template": template}
    kubectl.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "indexed"}, "spec": spec})
    kubectl.wait("job/indexed", "condition", "Complete")
    said = kubectl("logs", "--selector=job-name=indexed", "--container=ask")
    assert sorted(said.splitlines()) == ["0 200", "1 200"]


def test_service_is_reached_by_its_name(kubectl: Kubectl):
    ready = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    service = {"selector": {"app": "server"}, "ports": [{"port": 8080}]}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service},
        pod("server", python("server", SERVE, readinessProbe=ready)),
    )
    kubectl.wait("pod/server", "condition", "Ready")
    code = "import urllib.request as r; print(r.urlopen('http://{}:8080/').status)"
    for number, name in enumerate(("web", f"web.{kubectl.namespace}.svc.cluster.local")):
        kubectl.apply(pod(f"client-{number}", python("client", code.format(name))))
        kubectl.wait(f"pod/client-{number}", "jsonpath={.status.phase}", "Succeeded")


def test_restricted_pod_security_refuses_a_privileged_pod(kubectl: Kubectl):
    privileged = pod("privileged", container("c", "true") | {"securityContext": {"privileged": True}})
    with pytest.raises(AssertionError, match=r"violates PodSecurity \"restricted:latest\": privileged"):
        kubectl.apply(privileged)


@pytest.fixture
def gpu(places: Places) -> Generator[None]:
    """One GPU, which only the scheduler knows of."""
    api, path = Api(places), f"/api/v1/nodes/{NODE_NAME}/status"

    def offer(count: Any) -> None:
        # both, or the kubelet takes most of a minute to make the one of the other
        gpus = {"nvidia.com/gpu": count}
        api.merge(path, {"status": {"capacity": gpus, "allocatable": gpus}})

    offer("1")
    yield
    offer(None)


def limited(name: str) -> dict[str, Any]:
    return pod(name, container("c", "true", resources={"limits": {"nvidia.com/gpu": "1"}}))


def test_pod_gets_a_simulated_gpu(kubectl: Kubectl, gpu: None):
    kubectl.apply(limited("trains"))
    kubectl.wait("pod/trains", "jsonpath={.status.phase}", "Succeeded")


def test_pod_is_unschedulable_when_no_gpu_is_free(kubectl: Kubectl):
    kubectl.apply(limited("waits"))
    kubectl.wait("pod/waits", "condition", "PodScheduled=false")
    (why,) = (c["message"] for c in kubectl.get("pod", "waits")["status"]["conditions"] if c["type"] == "PodScheduled")
    assert "Insufficient nvidia.com/gpu" in why


def test_audit_log_lists_the_requests_of_a_service_account(kubectl: Kubectl, places: Places):
    user = f"system:serviceaccount:{kubectl.namespace}:default"
    kubectl("create", "role", "reader", "--verb=list", "--resource=pods")
    kubectl("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={kubectl.namespace}:default")
    kubectl("get", "pods", f"--as={user}")
    token = kubectl("create", "token", "default").strip()
    # an impersonated request is the administrator's in the log: ask as a pod would
    command = [*components.kubectl(places)[:1], f"--token={token}", f"--namespace={kubectl.namespace}"]
    server = ["--server=https://10.77.0.2:6443", f"--certificate-authority={places.certificates}/ca.crt"]
    listed = subprocess.run([*command, *server, "get", "pods"], capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    assert subprocess.run([*command, *server, "get", "secrets"], capture_output=True).returncode == 1

    def seen() -> set[tuple[str, str, bool]]:
        return {(r.verb, r.resource, r.allowed) for r in audit.requests(places, user)}

    eventually("both requests", lambda: {("list", "pods", True), ("list", "secrets", False)} <= seen())
