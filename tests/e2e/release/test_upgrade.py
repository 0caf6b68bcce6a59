"""A release replaces an earlier one while a run plays, and the run continues."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from distillery_operator.decide.releases import UPGRADE_ANNOTATION
from hack.testbed.images import builder
from hack.testbed.places import Places
from tests.e2e.conftest import CHART, REGISTRY, ROOT, SYSTEM, build_images, namespace
from tests.e2e.support.cluster import RELEASE, RUN, Cluster, Namespace
from tests.e2e.support.documents import small
from tests.e2e.support.faults import finished

pytestmark = pytest.mark.full

FORMER = "fc16c3aafb7965c4e4145237abc52797ddd4b73c"
"""The commit of the latest tagged version, 0.1.0-alpha.1."""

TAG = "former"
NAME = "upgraded"
AGAIN = "again"


def install(cluster: Cluster, chart: Path, *values: str) -> None:
    """Install a release, or put it in the place of another."""
    cluster.helm(
        "upgrade", "--install", RELEASE, str(chart), f"--namespace={SYSTEM}", "--reset-values",
        *(f"--set={value}" for value in values), "--wait", "--timeout=10m", "--force-conflicts",
    )  # fmt: skip


@pytest.fixture(scope="module")
def former(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """The files of the earlier release, whose images the node has."""
    if cluster.context:
        pytest.skip("the images of this cluster were built elsewhere")
    folder = tmp_path_factory.mktemp("former") / "checkout"
    subprocess.run(["git", "worktree", "add", "--detach", str(folder), FORMER], cwd=ROOT, check=True)
    try:
        build_images(Places.from_environment(), folder, TAG)
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def team(cluster: Cluster, former: Path) -> Generator[Namespace]:
    """A user's namespace, in a cluster with the earlier release."""
    cluster.namespace(SYSTEM).create()
    tags = [f"{image}.tag={TAG}" for image in ("image", "images.pipeline", "images.gateway", "images.cpuServer")]
    install(cluster, former / "charts" / "distillery", f"registry={REGISTRY}", *tags)
    with namespace(cluster, "e2e-upgrade") as made:
        yield made


def containers(pod: dict[str, Any]) -> dict[str, str]:
    """The image of each container of a pod or a pod template."""
    spec = pod["spec"]
    return {c["name"]: c["image"] for c in (*spec.get("initContainers", []), *spec["containers"])}


def servers(team: Namespace) -> dict[str, dict[str, str]]:
    """The images of the pods that serve, by the pod's uid."""
    pods = team.list("pods", f"distillery.dev/run={NAME},app.kubernetes.io/component=serving")
    return {pod["metadata"]["uid"]: containers(pod) for pod in pods if not pod["metadata"].get("deletionTimestamp")}


def serves_base(team: Namespace) -> bool:
    """Return whether the base model is served, and by no pod of another student."""
    status = team.status(NAME)
    served = status.get("serving", {}).get("student") == "base"
    return served and team.condition(NAME, "Serving").get("status") == "True" and len(servers(team)) == 1


def test_run_continues_when_the_release_is_upgraded_while_it_plays(team: Namespace, cluster: Cluster):
    team.apply(small(NAME))
    team.wait_for("a finished episode", lambda: finished(team, NAME, "own") > 0, run=NAME)
    (playing,) = team.pods_of("r1-rollout")
    database = containers(team.get("pod", f"{NAME}-database-0"))
    assert containers(playing)["worker"] == f"{REGISTRY}/distillery/pipeline:{TAG}"
    recorded = team.status(NAME)["images"]
    assert recorded["pipeline"] == f"{REGISTRY}/distillery/pipeline:{TAG}"

    install(cluster, CHART, f"registry={REGISTRY}", "replicas=2")
    team.wait_for("the end of the run", lambda: team.status(NAME).get("phase") == "Complete", run=NAME)

    (played,) = team.pods_of("r1-rollout")
    assert played["metadata"]["uid"] == playing["metadata"]["uid"], "the worker was replaced"
    assert containers(played) == containers(playing)
    (hinted,) = team.pods_of("r1-hints")
    assert containers(hinted)["worker"] == recorded["pipeline"], "the run has other images without a request"
    assert team.status(NAME)["images"] == recorded
    template = team.get("statefulset", f"{NAME}-database")["spec"]["template"]
    assert containers(template) == database
    assert [ended["round"] for ended in team.status(NAME)["rounds"]] == [1]
    assert team.status(NAME)["learnedDigest"]


def test_serving_pods_stay_until_an_upgrade_is_requested(team: Namespace, cluster: Cluster):
    """The run of the test above; another tag of the gateway stands for another release."""
    places, gateway = Places.from_environment(), f"{REGISTRY}/distillery/gateway:{AGAIN}"
    builder.build(places, builder.Source(ROOT / "images" / "gateway" / "Dockerfile", ROOT), gateway)
    builder.load(places, gateway)
    team.kubectl("patch", RUN, NAME, "--type=merge", '--patch={"spec": {"serving": {"pinnedRound": 0}}}')
    # the run may have promoted its student, whose pods the base model's replace
    team.wait_for("the base model's servers", lambda: serves_base(team))
    before, status = servers(team), team.status(NAME)

    install(cluster, CHART, f"registry={REGISTRY}", "replicas=2", f"images.gateway.tag={AGAIN}")
    team.kubectl("annotate", RUN, NAME, "note=seen")  # a cause for the new operator to look
    with pytest.raises(AssertionError, match="other pods did not come about"):
        team.wait_for("other pods", lambda: servers(team) != before, seconds=90)
    assert team.status(NAME)["images"] == status["images"]

    team.kubectl("annotate", RUN, NAME, f"{UPGRADE_ANNOTATION}=now")

    def moved() -> bool:
        pods = servers(team).values()
        return bool(pods) and all(images["gateway"] == gateway for images in pods)

    team.wait_for("pods with the new image, and no others", moved)
    team.wait_for("the servers", lambda: team.condition(NAME, "Serving").get("status") == "True")
    assert team.status(NAME)["upgradeRequest"] == "now"
