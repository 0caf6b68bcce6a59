"""A real Prometheus on this machine that scrapes what the chart's monitors select, through the API server."""

from __future__ import annotations

import json
import math
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distillery.core.child_processes import free_port
from tests.e2e.support.cluster import Cluster, Namespace

# Stages of a tiny model are short: a pod is found, and asked often enough for a rate, in a few seconds.
SECONDS = 2
PATIENCE = 60.0

CONFIGURATION = f"""\
global: {{scrape_interval: {SECONDS}s}}
scrape_configs:
  - job_name: distillery
    file_sd_configs:
      - {{files: [targets.json], refresh_interval: 1s}}
"""


@dataclass(frozen=True)
class Monitor:
    """What a ServiceMonitor or a PodMonitor selects.

    Attributes:
        selector: labels of pods, or of Services.
        port: the name of the port.
        services: whether Services are selected.
    """

    selector: str
    port: str
    services: bool

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> Monitor:
        """Of a manifest."""
        spec = manifest["spec"]
        services = manifest["kind"] == "ServiceMonitor"
        (endpoint,) = spec["endpoints" if services else "podMetricsEndpoints"]
        assert endpoint["path"] == "/metrics"
        return cls(_selector(spec["selector"]), endpoint["port"], services)


def _selector(selector: dict[str, Any]) -> str:
    chosen = [f"{key}={value}" for key, value in selector.get("matchLabels", {}).items()]
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        chosen.append(f"{expression['key']} in ({','.join(expression['values'])})")
    return ",".join(chosen)


@dataclass(frozen=True)
class Prometheus:
    """The server.

    Attributes:
        address: where it listens.
        started: seconds since the epoch.
    """

    address: str
    started: float = field(default_factory=time.time)

    def shows(self, expression: str) -> bool:
        """Whether a panel that asks this has shown a number since the server was started."""
        asked = urllib.parse.urlencode(
            {"query": expression, "start": self.started, "end": time.time(), "step": SECONDS},
        )
        found = _get(f"http://{self.address}/api/v1/query_range?{asked}")
        assert found["status"] == "success", found
        return any(not math.isnan(float(value)) for series in found["data"]["result"] for _, value in series["values"])


@contextmanager
def scraping(cluster: Cluster, system: Namespace, monitors: list[Monitor], folder: Path) -> Generator[Prometheus]:
    """A Prometheus that follows the pods of all monitors, in all namespaces, as they come and go."""
    (folder / "prometheus.yaml").write_text(CONFIGURATION)
    (folder / "targets.json").write_text("[]")
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus", f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]  # fmt: skip
    ended = threading.Event()
    with system.proxy() as api, cluster.start(*command, log=folder / "prometheus.log") as process:
        follower = threading.Thread(target=_follow, args=(api, monitors, folder / "targets.json", ended))
        follower.start()
        try:
            _wait_until_ready(address, process, folder / "prometheus.log")
            yield Prometheus(address)
        finally:
            ended.set()
            follower.join()


def _follow(api: str, monitors: list[Monitor], file: Path, ended: threading.Event) -> None:
    while not ended.wait(1):
        targets = [_target(api, pod, port) for monitor in monitors for pod, port in _pods(api, monitor)]
        new = file.with_suffix(".new")
        new.write_text(json.dumps(targets))
        new.replace(file)


def _target(api: str, pod: dict[str, Any], port: int) -> dict[str, Any]:
    """With the labels that the Prometheus operator gives the targets of a monitor."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    path = f"/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics"
    return {"targets": [api], "labels": {"__metrics_path__": path, "namespace": namespace, "pod": name}}


def _pods(api: str, monitor: Monitor) -> Iterator[tuple[dict[str, Any], int]]:
    """The running pods that a monitor selects, and the number of their port."""
    if not monitor.services:
        yield from _with_port(_list(api, "/api/v1/pods", monitor.selector), monitor.port)
        return
    for service in _list(api, "/api/v1/services", monitor.selector):
        port = next(p["targetPort"] for p in service["spec"]["ports"] if p["name"] == monitor.port)
        path = f"/api/v1/namespaces/{service['metadata']['namespace']}/pods"
        yield from _with_port(_list(api, path, _selector({"matchLabels": service["spec"]["selector"]})), port)


def _with_port(pods: list[dict[str, Any]], name: str) -> Iterator[tuple[dict[str, Any], int]]:
    for pod in pods:
        containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
        for port in (port for container in containers for port in container.get("ports", [])):
            if port.get("name") == name and pod["status"].get("phase") == "Running":
                yield pod, port["containerPort"]


def _list(api: str, path: str, selector: str) -> list[dict[str, Any]]:
    return _get(f"http://{api}{path}?labelSelector={urllib.parse.quote(selector)}")["items"]


def _get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return json.load(answer)


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=PATIENCE):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"Prometheus did not start:\n{log.read_text()[-2000:]}")
