"""Helm's life cycle: an upgrade changes the operator and no run; uninstalling takes all but the runs."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import CHART, RELEASE, SYSTEM
from tests.e2e.support.cluster import RUN, Cluster, Namespace
from tests.e2e.support.documents import small

pytestmark = pytest.mark.full


def test_run_keeps_its_status_when_the_release_is_upgraded_or_uninstalled(
    team: Namespace, operator: Namespace, cluster: Cluster, image_values: list[str]
):
    team.apply(small(suspend=True))
    team.wait_for("the suspension", lambda: team.status("small").get("phase") == "Suspended")
    before = team.get(RUN, "small")

    release = ["upgrade", "--install", RELEASE, str(CHART), f"--namespace={SYSTEM}", *image_values, "--wait"]
    cluster.helm(*release, "--set=logLevel=DEBUG", "--set=replicas=1", "--timeout=10m")
    environment = operator.get("deployment", RELEASE)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "DISTILLERY_LOG_LEVEL", "value": "DEBUG"} in environment
    assert operator.get("poddisruptionbudget", RELEASE) == {}
    team.kubectl("annotate", RUN, "small", "note=seen")
    assert team.get(RUN, "small")["status"] == before["status"]

    cluster.helm("uninstall", RELEASE, f"--namespace={SYSTEM}", "--wait")
    mine = f"app.kubernetes.io/instance={RELEASE}"
    kinds = "all,serviceaccounts,roles,rolebindings,networkpolicies,clusterroles,clusterrolebindings"
    # Helm does not wait for pods that its Deployment leaves to the garbage collector
    operator.wait_for(
        "nothing of the release",
        lambda: not operator.kubectl("get", kinds, f"--selector={mine}", "--output=name").strip(),
    )
    assert team.get(RUN, "small")["status"] == before["status"]  # crds.keep

    cluster.helm(*release, "--set=replicas=2", "--timeout=10m")
    team.kubectl("patch", RUN, "small", "--type=merge", '--patch={"spec": {"suspend": false}}')
    team.wait_for("its database", lambda: team.get("statefulset", "small-database"), run="small")
