"""Who decides on the number of servers: the run, or an autoscaler. tests/e2e/api/test_scale.py asks an API server."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from distillery.core.api import InvalidRun
from distillery_operator.cache import Cache
from distillery_operator.crd.generate import crd
from distillery_operator.decide.replicas import HANDOVER, replicas_to_keep
from distillery_operator.kube.client import CONTROLLER
from distillery_operator.metrics import Metrics
from distillery_operator.model.objects import Manifest
from distillery_operator.reconcile import Reconciler
from tests.fakes.cluster import FakeCluster, run_object
from tests.unit.operator.decide.test_one_gpu import end_jobs
from tests.unit.operator.manifests.test_manifests import owner
from tests.unit.operator.test_reconcile import FakeKube

EXTERNAL: dict[str, Any] = {"promotion": {"weights": "adapter"}, "serving": {"scaling": "External", "replicas": 2}}
OWNED = {"f:spec": {"f:replicas": {}, "f:selector": {}}}


def managed(*managers: str, replicas: int = 4) -> Manifest:
    """A Deployment whose replicas these managers own."""
    fields = [{"manager": manager, "operation": "Apply", "fieldsV1": OWNED} for manager in managers]
    others = [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}, {"manager": "odd"}]
    metadata = {"name": "test", "namespace": "team", "managedFields": [*fields, *others]}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}}


def wanted(**spec: Any) -> Manifest:
    metadata = {"name": "test", "namespace": "team", "labels": {}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


class ScaledCluster(FakeCluster):
    """A cluster whose autoscaler keeps what the operator does not say."""

    def reconcile(self) -> Any:
        before = self.objects.get(("Deployment", "test"), {"spec": {}})["spec"].get("replicas")
        decision = super().reconcile()
        if made := self.objects.get(("Deployment", "test")):
            self.objects["Deployment", "test"] = {**made, "spec": {"replicas": before, **made["spec"]}}
        return decision

    def scale(self, replicas: int) -> None:
        self.objects["Deployment", "test"]["spec"]["replicas"] = replicas


def applied(decision: Any) -> Manifest:
    (deployment,) = (manifest for manifest in decision.apply if manifest["kind"] == "Deployment")
    return deployment["spec"]


def test_replicas_are_left_to_an_autoscaler_when_it_decides():
    cluster = ScaledCluster(run_object(**EXTERNAL))
    assert cluster.run() == "Complete"
    cluster.scale(5)
    for _ in range(2):
        assert "replicas" not in applied(cluster.reconcile())
        cluster.get_ready()
    cluster.reconcile()
    assert cluster.condition("Serving")["status"] == "True"
    assert (cluster.status["serving"]["replicas"], cluster.status["serving"]["readyReplicas"]) == (5, 5)
    cluster.scale(0)
    cluster.reconcile()
    assert cluster.condition("Serving")["reason"] == "NoReplicas"
    cluster.body["spec"]["serving"]["scaling"] = "Fixed"
    assert applied(cluster.reconcile())["replicas"] == 2


def test_autoscaler_starts_with_the_replicas_of_the_run():
    cluster = ScaledCluster(run_object(**EXTERNAL))
    applied_first = next(filter(None, (first_deployment(cluster) for _ in range(400))))
    assert applied_first["spec"]["replicas"] == 2


def first_deployment(cluster: FakeCluster) -> Manifest | None:
    """The Deployment that a look makes, if it makes one; stages succeed meanwhile."""
    decision = cluster.reconcile()
    cluster.get_ready()
    end_jobs(cluster)
    return next((manifest for manifest in decision.apply if manifest["kind"] == "Deployment"), None)


@pytest.mark.parametrize(
    ("managers", "spec", "first"),
    [
        ((CONTROLLER,), {}, True),
        ((CONTROLLER, HANDOVER), {}, False),
        (("kube-controller-manager",), {}, False),
        ((), {}, False),
        ((CONTROLLER,), {"replicas": 1}, False),
    ],
)
def test_another_manager_holds_replicas_when_the_last_gives_them_up(
    managers: tuple[str, ...], spec: dict[str, Any], first: bool
):
    manifest = replicas_to_keep(wanted(**spec), managed(*managers), CONTROLLER)
    named = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "test", "namespace": "team"}}
    assert manifest == ({**named, "spec": {"replicas": 4}} if first else None)


async def test_replicas_are_handed_over_before_they_are_given_up():
    cluster = ScaledCluster(run_object(promotion=EXTERNAL["promotion"], serving={"replicas": 2}))
    cluster.run()
    cluster.body["spec"]["serving"]["scaling"] = "External"
    cache = Cache()
    cache.keep_run(copy.deepcopy(cluster.body) | {"status": cluster.status})
    for thing in cluster.objects.values():
        cache.keep(copy.deepcopy(thing))
    calls: list[tuple[str, Any]] = []

    class KubeClient(FakeKube):
        async def apply(self, manifest: Manifest, *, manager: str = CONTROLLER) -> Manifest:
            if manifest["kind"] == "Deployment":
                calls.append((manager, manifest["spec"].get("replicas")))
            return await super().apply(manifest)

    kube = KubeClient(cache)
    present = managed(CONTROLLER)
    present["metadata"]["ownerReferences"] = owner().metadata("test", "serving")["ownerReferences"]
    kube.present["Deployment", "test"] = present
    await Reconciler(("team", "test"), kube, cache, cluster.settings, Metrics(), asyncio.Semaphore())._reconcile()
    assert calls == [(HANDOVER, 4), (CONTROLLER, None)]


def test_scale_subresource_has_the_replicas_and_labels_of_the_servers():
    cluster = FakeCluster(run_object())
    cluster.run()
    (version,) = crd()["spec"]["versions"]
    paths = version["subresources"]["scale"]
    assert at(cluster.body, paths["specReplicasPath"]) == at(cluster.status, paths["statusReplicasPath"][7:]) == 1
    selector = dict(pair.split("=") for pair in at(cluster.status, paths["labelSelectorPath"][7:]).split(","))
    labels = cluster.objects["Deployment", "test"]["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()


def at(value: Any, path: str) -> Any:
    """What is at a path such as ``.spec.replicas``."""
    for name in path.removeprefix(".").split("."):
        value = value[name]
    return value


def test_autoscaler_and_a_pause_exclude_each_other():
    with pytest.raises(InvalidRun, match="External needs"):
        owner(serving={"scaling": "External", "duringRounds": "Pause"})
