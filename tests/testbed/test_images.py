"""Images are built unmodified and loaded without a registry."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hack.testbed.client.kubectl import Kubectl, eventually
from hack.testbed.client.workloads import claim, container, pod
from hack.testbed.control_plane import components
from hack.testbed.errors import ClusterError
from hack.testbed.images import builder
from hack.testbed.images.stand_ins import RECIPES
from hack.testbed.images.store import Store
from hack.testbed.places import Places
from tests.testbed.conftest import require_node

require_node()

TAG = "cluster-test:1"
DOCKERFILE = """\
FROM python:3.11-slim AS build
RUN pip install --no-cache-dir --target=/packages tabulate==0.9.0

FROM python:3.11-slim
COPY --from=build /packages /packages
ENV PYTHONPATH=/packages
COPY say.py /say.py
USER 1000
CMD ["python", "/say.py"]
"""


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "say.py").write_text("import tabulate; print(tabulate.__version__)")
    return folder


def build(places: Places, context: Path) -> str:
    return builder.build(places, builder.Source(context / "Dockerfile", context), TAG)


def test_image_with_packages_is_built_loaded_and_runs(kubectl: Kubectl, places: Places, context: Path):
    build(places, context)
    builder.load(places, TAG)
    kubectl.apply(pod("says", container("c", image=TAG)))
    kubectl.wait("pod/says", "jsonpath={.status.phase}", "Succeeded")
    assert kubectl("logs", "says").strip() == "0.9.0"


def test_image_is_neither_built_nor_loaded_when_nothing_changed(places: Places, context: Path):
    identity = build(places, context)
    assert build(places, context) == identity
    builder.load(places, TAG)
    assert not builder.load(places, TAG)


def names_in_the_node(places: Places) -> list[str]:
    command = [*components.ctr(places), "images", "ls", "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_only_the_changed_layer_is_built_and_the_old_image_is_removed(places: Places, context: Path):
    former = build(places, context)
    builder.load(places, TAG)
    before = (context / "say.py").read_text()
    (context / "say.py").write_text(f"{before}  # changed")
    identity = build(places, context)
    log = (places.logs / "build-docker.io-library-cluster-test-1.log").read_text()
    assert "Using cache" in log
    assert "Collecting" not in log
    assert builder.load(places, TAG)
    eventually("the new name", lambda: f"sha256:{identity}" in names_in_the_node(places))
    assert f"sha256:{former}" not in names_in_the_node(places)


def test_image_contains_no_setting_of_the_machine(places: Places, context: Path):
    build(places, context)
    store = Store(places)
    made = store.buildah("from", "--pull-never", TAG)
    try:
        root = Path(store.buildah("mount", made))
        for name in ("etc/pip.conf", "etc/uv/uv.toml"):
            assert (root / name).read_text() == (RECIPES / "debian" / name).read_text()
        assert not list((root / "run/build-host").iterdir())
        inspected = store.buildah("inspect", "--type=image", TAG)
        assert "PIP_" not in inspected
        assert "build-host" not in inspected
    finally:
        store.buildah("rm", made)


def test_build_shows_the_output_of_a_step_when_it_fails(places: Places, tmp_path: Path):
    (tmp_path / "Dockerfile").write_text("FROM python:3.11-slim\nRUN echo said; exit 3\n")
    with pytest.raises(ClusterError, match=r"said\n(.*\n)*.*exit status 3"):
        builder.build(places, builder.Source(tmp_path / "Dockerfile", tmp_path), "fails:1")


def test_error_names_the_image_when_it_was_not_built(places: Places):
    with pytest.raises(ClusterError, match=r"no image docker\.io/library/nowhere:latest: build it first"):
        builder.load(places, "nowhere")


def test_postgres_with_pgvector_runs_as_the_charts_run_it(kubectl: Kubectl):
    environment = [
        {"name": "POSTGRES_USER", "value": "distillery"},
        {"name": "POSTGRES_PASSWORD_FILE", "value": "/secret/password"},
        {"name": "POSTGRES_DB", "value": "hints"},
        {"name": "PGDATA", "value": "/data/pgdata"},
    ]
    mounts = {"data": "/data", "secret": "/secret", "run": "/var/run/postgresql", "tmp": "/tmp"}
    query = "CREATE EXTENSION vector; SELECT '[1,2]'::vector <-> '[1,4]'::vector"
    server = container(
        "postgres",
        image="pgvector/pgvector:pg17",
        env=environment,
        volumeMounts=[{"name": name, "mountPath": path} for name, path in mounts.items()],
        readinessProbe={"exec": {"command": ["pg_isready", "-h", "127.0.0.1", "-U", "distillery"]}, "periodSeconds": 1},
    )
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "secret", "secret": {"secretName": "password"}},
        {"name": "run", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
    ]
    kubectl("create", "secret", "generic", "password", "--from-literal=password=hunter2")
    kubectl.apply(claim("data"), pod("db", server, user=999, volumes=volumes))
    kubectl.wait("pod/db", "condition", "Ready")
    # by the pod's own address: like the public image, this one trusts 127.0.0.1
    url = f"postgresql://distillery:hunter2@{kubectl.get('pod', 'db')['status']['podIP']}/hints"
    assert kubectl("exec", "db", "--", "psql", "-qtAc", query, url).strip() == "2"
    with pytest.raises(AssertionError, match="password authentication failed"):
        kubectl("exec", "db", "--", "psql", "-c", "SELECT 1", url.replace("hunter2", "wrong"))
