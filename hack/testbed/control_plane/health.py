"""The health of the node, asked of what works last, so that nothing remembered can answer.

After a crash the API server still holds what was true before it: a Ready node, an available Deployment. So the
kubelet's lease must be younger than the kubelet, and DNS is asked a question: the answer came through kube-proxy, the
pod network, containerd and CoreDNS.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from hack.testbed.client.api import Api, ApiError
from hack.testbed.errors import ClusterError
from hack.testbed.machine.processes import Component, dead, processes, tail
from hack.testbed.places import API_SERVICE, DNS_SERVICE, NODE_NAME


def wait(
    what: str, check: Callable[[], bool], components: Sequence[Component], logs: Path, *, seconds: float = 300
) -> None:
    """Wait until a check says yes.

    Args:
        what: What the check is about, for the error.
        check: The question.
        components: All that have to live for it; the last is the one that is to make it true.
        logs: Where their logs are.
        seconds: How long to wait. Generous: these machines vary tenfold in speed.

    Raises:
        ClusterError: A component died, or time is up; with the end of the component's log.
    """
    deadline = time.monotonic() + seconds
    while not check():
        for component in dead(components):
            raise ClusterError(f"{component.name} died before this: {what}; {_end(component, logs)}")
        if time.monotonic() > deadline:
            raise ClusterError(f"not within {seconds:.0f} s: {what}; {_end(components[-1], logs)}")
        time.sleep(0.1)


def _end(component: Component, logs: Path) -> str:
    log = logs / f"{component.name}.log"
    return f"{log} ends with:\n{tail(log)}"


def listens(path: Path) -> bool:
    """Whether somebody accepts connections on a Unix socket: after a crash, its file is there and nobody listens."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def api_is_ready(api: Api) -> bool:
    """Whether the API server has finished what it does when it starts."""
    with suppress(ApiError):
        # the namespace is made by a loop that /readyz does not wait for
        return api.get("/readyz") == "ok" and bool(api.get("/api/v1/namespaces/kube-system"))
    return False


def node_is_ready(api: Api, *, since: datetime) -> bool:
    """Whether the node is Ready in the eyes of a kubelet that reported after ``since``."""
    with suppress(ApiError):
        lease = api.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE_NAME}")
        node = api.get(f"/api/v1/nodes/{NODE_NAME}")
        conditions = {condition["type"]: condition["status"] for condition in node["status"].get("conditions", [])}
        return datetime.fromisoformat(lease["spec"]["renewTime"]) >= since and conditions.get("Ready") == "True"
    return False


def started_at(component: Component) -> datetime:
    """When a component was started, by the clock on the wall.

    Raises:
        ClusterError: It does not run.
    """
    pid = next((process.pid for process in processes() if process.mark == component.mark), None)
    if pid is None:
        raise ClusterError(f"{component.name} does not run")
    # the 22nd field of /proc/PID/stat, in ticks since boot; the name before it may hold spaces and brackets
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return datetime.fromtimestamp(time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK"), tz=UTC)


def dns_answers() -> bool:
    """Whether the cluster's DNS knows the API server's Service."""
    try:
        return resolve("kubernetes.default.svc.cluster.local", seconds=0.5) == [API_SERVICE]
    except OSError:
        return False


def resolve(name: str, *, seconds: float = 2) -> list[str]:
    """The addresses (A records) that the cluster's DNS has for a name; empty if it knows none (RFC 1035).

    Raises:
        OSError: No answer in time.
    """
    number = secrets.token_bytes(2)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    question = labels + struct.pack("!HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(seconds)
        client.connect((DNS_SERVICE, 53))
        client.send(number + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + question)
        answer = client.recv(4096)
    if answer[:2] != number:
        return []
    count, position, found = struct.unpack("!H", answer[6:8])[0], 12 + len(question), list[str]()
    for _ in range(count):
        # each name in the answer is a pointer of two bytes, or labels that end with a null byte
        position = position + 2 if answer[position] >= 0xC0 else answer.index(b"\0", position) + 1
        kind, _, _, length = struct.unpack("!HHIH", answer[position : position + 10])
        if kind == 1:
            found.append(socket.inet_ntoa(answer[position + 10 : position + 14]))
        position += 10 + length
    return found
