"""The operator beside idle runs, as its benchmark measures it, in the short form."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.e2e.cluster import Cluster, Namespace
from tests.e2e.conftest import RELEASE, ROOT


def test_idle_runs_cost_no_writes_and_new_ones_no_time(cluster: Cluster, operator: Namespace, tmp_path: Path):
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.touch(0o600)
    kubeconfig.write_text(operator.kubectl("config", "view", "--minify", "--flatten"))
    told = Cluster({**cluster.variables, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(ROOT)})
    scale = ("scale", f"deployment/{RELEASE}")
    operator.kubectl(*scale, "--replicas=0")  # the benchmark brings its own
    try:
        mine = f"--selector=app.kubernetes.io/instance={RELEASE}"
        operator.kubectl("wait", "pod", mine, "--for=delete", "--timeout=600s")
        done = told.run(sys.executable, "-m", "benchmarks.operator", "--short")
    finally:
        operator.kubectl(*scale, "--replicas=2")
        operator.kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=600s")
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
