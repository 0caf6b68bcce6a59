"""Images from the Dockerfiles, the chart by Helm, and namespaces under restricted pod security.

Without $E2E_CONTEXT the cluster is a node that tests/cluster makes on this machine (root, Linux). With it, the current
images have to be where that cluster finds them: $E2E_REGISTRY is put before their names.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillery import __version__
from tests.e2e import serving
from tests.e2e.cluster import Cluster, Namespace
from tests.e2e.prometheus import Monitor, Prometheus, scraping

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "distillery"
SYSTEM = "distillery-system"
RELEASE = "distillery"

_TARGETS = {
    "operator": ("operator", ""),
    "gateway": ("gateway", ""),
    "pipeline": ("pipeline", "pipeline"),
    "server-cpu": ("pipeline", "server-cpu"),
}


def template(cluster: Cluster, *values: str) -> list[dict[str, Any]]:
    """What the chart makes of values."""
    rendered = cluster.helm("template", RELEASE, str(CHART), f"--namespace={SYSTEM}", *(f"--set={v}" for v in values))
    return [manifest for manifest in yaml.safe_load_all(rendered) if manifest]


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster, with the images of this checkout."""
    if context := os.environ.get("E2E_CONTEXT"):
        return Cluster(context=context)
    from tests.cluster import images, node
    from tests.cluster.places import Places

    places = Places.from_environment()
    node.up(places, bases=True)
    for name, (folder, target) in _TARGETS.items():
        tag = f"distillery/{name}:{__version__}"
        images.build(places, ROOT / "images" / folder / "Dockerfile", ROOT, tag, target=target)
        images.load(places, tag)
    return Cluster(variables=node.environment(places))


@pytest.fixture(scope="session")
def image_values() -> list[str]:
    """Helm's values for images."""
    registry = os.environ.get("E2E_REGISTRY", "").rstrip("/")
    if not registry:
        return []
    return [
        f"--set=image.repository={registry}/distillery/operator",
        f"--set=images.pipeline={registry}/distillery/pipeline:{__version__}",
        f"--set=images.gateway={registry}/distillery/gateway:{__version__}",
        f"--set=images.cpuServer={registry}/distillery/server-cpu:{__version__}",
    ]


@pytest.fixture(scope="session")
def operator(cluster: Cluster, image_values: list[str]) -> Namespace:
    """The operator, installed by Helm, two replicas of it."""
    system = cluster.namespace(SYSTEM)
    system.create()
    cluster.helm(
        "upgrade", "--install", RELEASE, str(CHART), f"--namespace={SYSTEM}", "--set=replicas=2", *image_values,
        "--wait", "--timeout=10m",
    )  # fmt: skip
    # what an earlier session left there runs an image that has the same name
    system.kubectl("rollout", "restart", f"deployment/{RELEASE}")
    system.kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=600s")
    return system


@pytest.fixture(scope="session")
def prometheus(
    cluster: Cluster, operator: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Prometheus]:
    """A Prometheus that scrapes what the chart's monitors select."""
    wanted = [m for m in template(cluster, "serviceMonitor.enabled=true") if m["kind"].endswith("Monitor")]
    with scraping(cluster, operator, list(map(Monitor.of, wanted)), tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@contextmanager
def namespace(cluster: Cluster, name: str) -> Generator[Namespace]:
    """A user's namespace, for a while."""
    made = cluster.namespace(name)
    made.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=600s")  # of a test that was interrupted
    made.create()
    try:
        yield made
    finally:
        made.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def team(cluster: Cluster, operator: Namespace, request: pytest.FixtureRequest) -> Generator[Namespace]:
    """A user's namespace, for one test."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:50].rstrip("-")
    with namespace(cluster, f"e2e-{name}") as made:
        yield made


@pytest.fixture(scope="session")
def adapters(cluster: Cluster, operator: Namespace) -> Generator[Namespace]:
    """A user's namespace with a run whose student two replicas serve as an adapter, for several modules.

    Its next round waits for failures of users.
    """
    with namespace(cluster, "e2e-serving") as made:
        rounds = {"max": 2, "trigger": {"failures": serving.FAILURES}}
        serving.start(made, "adapter", rounds=rounds, service={"feedback": {}})
        yield made
