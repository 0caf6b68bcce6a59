"""The operator next to idle runs, as its benchmark measures it, in the short form."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from hack.testbed.client.api import Api
from hack.testbed.places import Places
from tests.e2e.conftest import RELEASE, ROOT, WHY_NO_NODE
from tests.e2e.support.cluster import Cluster, Namespace


@pytest.fixture
def kubeconfig(api: Api, request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Path]:
    """Of a cluster that no operator looks after meanwhile: the benchmark brings its own."""
    if request.config.stash[WHY_NO_NODE]:
        places: Places = request.getfixturevalue("places")
        yield places.kubeconfig
        return
    operator: Namespace = request.getfixturevalue("operator")
    path = tmp_path / "kubeconfig"
    path.touch(0o600)
    path.write_text(operator.kubectl("config", "view", "--minify", "--flatten"))
    scale = ("scale", f"deployment/{RELEASE}")
    operator.kubectl(*scale, "--replicas=0")
    try:
        mine = f"--selector=app.kubernetes.io/instance={RELEASE}"
        operator.kubectl("wait", "pod", mine, "--for=delete", "--timeout=600s")
        yield path
    finally:
        operator.kubectl(*scale, "--replicas=2")
        operator.kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=600s")


@pytest.mark.api
def test_idle_runs_cost_no_writes_and_do_not_delay_new_runs(kubeconfig: Path):
    program = Cluster({"KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(ROOT)})
    done = program.run(sys.executable, "-m", "benchmarks.operator", "--short")
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
