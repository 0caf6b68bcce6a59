"""The order in which decisions are carried out, on a named fake of the API server."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from distillery_operator import reconcile
from distillery_operator.cache import Cache
from distillery_operator.decide.canary.plan import POLL_INTERVAL_SECONDS
from distillery_operator.kube.client import ApiError, KubeClient
from distillery_operator.manifests.gateway import GENERATION
from distillery_operator.metrics import Metrics
from distillery_operator.model.decision import Decision
from distillery_operator.model.names import STAGE_LABEL
from distillery_operator.model.objects import Manifest, ObjectRef, rfc3339
from distillery_operator.model.reasons import Stalled
from distillery_operator.pods import serving
from distillery_operator.reconcile import Reconciler
from tests.fakes.cluster import FakeCluster, owned_by, run_object
from tests.unit.operator.decide.canary.scenario import BAD, GOOD, NEW, OLD, CanaryScenario


class FakeKube(KubeClient):
    """Notes what is asked of it, and keeps annotations and what was applied.

    Attributes:
        generation: of the routing document of serving pods.
        down: no Job can be created, for the API server does not work.
        refuses: what it says to an object, by kind.
        present: what others have there, or what a test says is there, by kind and name.
    """

    def __init__(self, cache: Cache) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.listed: list[str] = []
        self.present: dict[tuple[str, str], Manifest] = {}
        self._applied: dict[tuple[str, str], Manifest] = {}
        self.statuses: list[Manifest] = []
        self.down = False
        self.refuses: dict[str, str] = {}
        self.generation = 0
        self._cache = cache

    def _admit(self, manifest: Manifest) -> None:
        if message := self.refuses.get(manifest["kind"]):
            raise ApiError(403, "Forbidden", message)

    async def apply(self, manifest: Manifest, *, manager: str = "") -> Manifest:
        self._admit(manifest)
        self.asked.append(("apply", manifest["kind"], manifest["metadata"]["name"]))
        kept = copy.deepcopy(manifest)
        kept["metadata"]["uid"] = f"uid of {manifest['metadata']['name']}"
        self._applied[manifest["kind"], manifest["metadata"]["name"]] = kept
        if (manifest["kind"], manifest["metadata"]["name"]) == ("ConfigMap", "test-serving"):
            self.generation = json.loads(manifest["data"]["desired"])["generation"]
        return manifest

    async def annotate(self, reference: ObjectRef, annotations: Mapping[str, str]) -> None:
        self.asked.append(("annotate", reference.kind, reference.name))
        pod = copy.deepcopy(self._cache._children["team", "test"][reference.kind, reference.name])
        pod["metadata"]["annotations"] = dict(annotations)
        self._cache.keep(pod)

    async def get(self, reference: ObjectRef) -> Manifest | None:
        key = (reference.kind, reference.name)
        return self.present.get(key) or self._applied.get(key)

    async def apply_status(self, manifest: Manifest, *, manager: str = "") -> Manifest:
        self.asked.append(("status", manifest["kind"], manifest["metadata"]["name"]))
        self.statuses.append(manifest["status"])
        return manifest

    async def create(self, manifest: Manifest) -> bool:
        self._admit(manifest)
        if self.down and manifest["kind"] == "Job":
            raise ApiError(500, "InternalError", "etcd is away")
        self.asked.append(("create", manifest["kind"], manifest["metadata"]["name"]))
        return True

    async def list(self, api_version: str, kind: str, namespace: str, **selectors: str) -> list[Manifest]:
        self.listed.append(kind)
        found = self._cache._children[namespace, "test"]
        return [thing for (known, _), thing in found.items() if known == kind]

    async def delete(self, reference: ObjectRef, *, uid: str = "") -> None:
        self.asked.append(("delete", reference.kind, reference.name))
        self._applied.pop((reference.kind, reference.name), None)
        self._cache._children["team", "test"].pop((reference.kind, reference.name), None)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What gateways say, and whom they were asked."""
    state: dict[str, Any] = {"generation": 0, "asked": [], "traffic": {}}

    async def poll_pods(pods: Iterable[Manifest], *, port: int = 0) -> dict[str, serving.PodReport]:
        names = [pod["metadata"]["name"] for pod in pods]
        state["asked"].append(names)
        word = serving.PodReport(state["generation"], traffic=state["traffic"])
        return {pod["metadata"]["uid"]: word for pod in pods if word.generation}

    monkeypatch.setattr(serving, "poll_pods", poll_pods)
    return state


async def test_pods_are_polled_until_they_serve_a_new_document(said: dict[str, Any]):
    cluster = FakeCluster(run_object(promotion={"weights": "adapter"}))
    assert cluster.run() == "Complete"
    for _ in range(2):
        cluster.reconcile()
    said["generation"] = before = cluster.desired()["generation"]
    cache = Cache()
    body = copy.deepcopy(cluster.body) | {"status": cluster.status}
    body["spec"]["serving"]["pinnedRound"] = 0
    cache.keep_run(body)
    for thing in cluster.objects.values():
        cache.keep(copy.deepcopy(thing))
    kube = FakeKube(cache)
    reconciler = Reconciler(("team", "test"), kube, cache, cluster.settings, Metrics(), asyncio.Semaphore())

    assert await reconciler._reconcile() == 1.0
    assert said["asked"] == [["test-0"]], "an operator that restarted polls every pod once"
    order = [ask for ask in kube.asked if ask[1] in ("ConfigMap", "Pod")]
    assert order == [("apply", "ConfigMap", "test-serving"), ("annotate", "Pod", "test-0")]
    serving = kube.statuses[-1]["serving"]
    assert (serving["student"], serving["readyReplicas"]) == ("base", 0)

    assert await reconciler._reconcile() == 1.0
    assert len(said["asked"]) == 2, "it did not report the last document yet"
    pod = cache.observe(("team", "test"), body["metadata"]["uid"]).pods
    (annotation,) = (p["metadata"]["annotations"][GENERATION] for p in pod if p["metadata"]["name"] == "test-0")
    assert annotation != str(before)
    said["generation"] = int(annotation)
    assert await reconciler._reconcile() == pytest.approx(30, abs=10)
    assert kube.statuses[-1]["serving"]["readyReplicas"] == 1
    (serving,) = (c for c in kube.statuses[-1]["conditions"] if c["type"] == "Serving")
    assert serving["status"] == "True"
    assert "http://test.team.svc:8000/v1" in serving["message"]

    asked = len(said["asked"])
    assert await reconciler._reconcile() == pytest.approx(30, abs=10)
    assert len(said["asked"]) == asked, "a pod that reported the last document is not polled"
    assert [ask for ask in kube.asked if ask[0] == "annotate"] == [("annotate", "Pod", "test-0")]


async def test_pods_are_polled_every_few_seconds_during_a_canary(said: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    cluster = CanaryScenario.start(weights="merged")
    cluster.status["serving"]["canary"]["stepStartTime"] = rfc3339(datetime.now(UTC))
    said["generation"] = cluster.desired()["generation"]
    cache = Cache()
    cache.keep_run(copy.deepcopy(cluster.body) | {"status": cluster.status})
    for thing in cluster.objects.values():
        cache.keep(copy.deepcopy(thing))
    kube = FakeKube(cache)
    clock = 1000.0
    monkeypatch.setattr(reconcile.time, "monotonic", lambda: clock)
    reconciler = Reconciler(("team", "test"), kube, cache, cluster.settings, Metrics(), asyncio.Semaphore())
    looks = ((0.0, 1), (1.0, 1), (4.0, 2), (5.0, 3))
    for seconds, times in looks:
        clock += seconds
        assert await reconciler._reconcile() == 5.0
        assert len(said["asked"]) == times
    assert said["asked"][0] == ["test-0", "test-1"]
    said["generation"] = 0  # nobody answers
    for seconds in (60.0, 55.0):
        clock += seconds
        assert await reconciler._reconcile() == 5.0
    assert not kube.statuses, "a look costs no write"
    clock += 5.0
    await reconciler._reconcile()
    assert kube.statuses[-1]["serving"]["canary"]["phase"] == "Error"
    asked = len(said["asked"])
    clock += 60.0
    await reconciler._reconcile()
    assert len(said["asked"]) == asked


def reconciler_of(cluster: FakeCluster) -> tuple[Reconciler, FakeKube, Cache]:
    cache = Cache()
    cache.keep_run(copy.deepcopy(cluster.body) | {"status": cluster.status})
    for thing in cluster.objects.values():
        cache.keep(copy.deepcopy(thing))
    kube = FakeKube(cache)
    return Reconciler(("team", "test"), kube, cache, cluster.settings, Metrics(), asyncio.Semaphore()), kube, cache


async def test_canary_verdict_is_stored_when_later_writes_fail(said: dict[str, Any]):
    cluster = CanaryScenario.start(rounds=3)
    for job in cluster.running_jobs():
        del cluster.objects["Job", job["metadata"]["name"]]
    said["generation"] = cluster.desired()["generation"]
    said["traffic"] = {OLD: GOOD, NEW: BAD}
    reconciler, kube, _ = reconciler_of(cluster)
    kube.down = True
    with pytest.raises(ApiError, match="etcd"):
        await reconciler._reconcile()
    assert kube.statuses[-1]["serving"]["canary"]["phase"] == "Failed"
    written = [ask for ask in kube.asked if ask[0] == "status" or ask[1] == "ConfigMap"]
    assert [ask[0] for ask in written] == ["status", "apply", "create"]
    said["generation"] = 0
    with pytest.raises(ApiError, match="etcd"):
        await reconciler._reconcile()
    assert len(kube.statuses) == 1, "it is not tried again"


def condition_of(kube: FakeKube, kind: str) -> dict[str, Any]:
    return next((c for c in kube.statuses[-1]["conditions"] if c["type"] == kind), {"status": "False"})


QUOTA = "exceeded quota: team, requested: requests.storage=50Gi, limited: 10Gi"


async def test_run_is_stalled_with_the_refusal_when_an_object_is_refused(said: dict[str, Any]):
    reconciler, kube, _ = reconciler_of(FakeCluster(run_object()))
    kube.refuses["PersistentVolumeClaim"] = QUOTA
    await reconciler._reconcile()
    stalled = condition_of(kube, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", Stalled.OBJECT_REJECTED)
    assert stalled["message"] == kube.statuses[-1]["message"]
    assert "PersistentVolumeClaim test-artifacts" in stalled["message"]
    assert QUOTA in stalled["message"]


async def test_other_objects_are_applied_when_one_is_refused(said: dict[str, Any]):
    reconciler, kube, _ = reconciler_of(FakeCluster(run_object()))
    kube.refuses["PersistentVolumeClaim"] = QUOTA
    await reconciler._reconcile()
    assert ("apply", "StatefulSet", "test-database") in kube.asked


async def test_refused_object_is_tried_again_and_its_refusal_is_written_once(said: dict[str, Any]):
    reconciler, kube, _ = reconciler_of(FakeCluster(run_object()))
    kube.refuses["PersistentVolumeClaim"] = QUOTA
    assert await reconciler._reconcile() == 15.0
    writes = len(kube.statuses)
    assert await reconciler._reconcile() == 15.0
    assert len(kube.statuses) == writes


async def test_run_is_not_stalled_when_a_refused_object_is_accepted(said: dict[str, Any]):
    reconciler, kube, _ = reconciler_of(FakeCluster(run_object()))
    kube.refuses["PersistentVolumeClaim"] = QUOTA
    await reconciler._reconcile()
    kube.refuses.clear()
    await reconciler._reconcile()
    assert condition_of(kube, "Stalled")["status"] == "False"
    assert ("apply", "PersistentVolumeClaim", "test-artifacts") in kube.asked


def present(kind: str, name: str, **metadata: Any) -> dict[tuple[str, str], Manifest]:
    return {(kind, name): {"kind": kind, "metadata": {"name": name, "namespace": "team", **metadata}}}


RELEASE = {"kind": "StatefulSet", "name": "postgres", "uid": "7", "controller": True}


@pytest.mark.parametrize(
    ("metadata", "whose"),
    [
        ({"ownerReferences": [RELEASE]}, "the StatefulSet postgres"),
        ({"labels": {"app": "theirs"}}, "somebody else"),
        ({"ownerReferences": [{**RELEASE, "kind": "DistillationRun", "name": "test"}]}, "the DistillationRun test"),
    ],
)
async def test_nothing_is_applied_over_an_object_of_another_owner(
    said: dict[str, Any], metadata: dict[str, Any], whose: str
):
    reconciler, kube, _ = reconciler_of(FakeCluster(run_object()))
    kube.present = present("Service", "test-database", **metadata)
    await reconciler._reconcile()
    assert ("apply", "Service", "test-database") not in kube.asked
    assert ("apply", "StatefulSet", "test-database") in kube.asked
    stalled = condition_of(kube, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", Stalled.NAME_CONFLICT)
    assert "Service test-database" in stalled["message"]
    assert whose in stalled["message"]
    kube.present.clear()
    await reconciler._reconcile()
    assert ("apply", "Service", "test-database") in kube.asked


@pytest.mark.parametrize("theirs", [True, False])
async def test_nothing_of_another_owner_is_deleted(said: dict[str, Any], theirs: bool):
    """The end of a canary deletes objects of kinds that are not watched, by their names."""
    cluster = FakeCluster(run_object())
    reconciler, kube, _ = reconciler_of(cluster)
    await reconciler._reconcile()
    ours = {"kind": "DistillationRun", "name": "test", "uid": cluster.body["metadata"]["uid"], "controller": True}
    kube.present = present("Service", "test-canary", uid="8", ownerReferences=[RELEASE if theirs else ours])
    deleted = (
        (ObjectRef("v1", "Service", "team", "test-canary"), ""),
        (ObjectRef("v1", "ConfigMap", "team", "no"), ""),
    )
    await reconciler._act(cluster.body, Decision(delete=deleted, status=reconciler._status.fields))
    assert [ask for ask in kube.asked if ask[0] == "delete"] == [("delete", "Service", "test-canary")] * (not theirs)


async def test_nothing_is_applied_when_the_object_is_being_deleted(said: dict[str, Any]):
    reconciler, kube, _ = reconciler_of(FakeCluster(run_object()))
    kube.present = present("Service", "test-database", deletionTimestamp="2026-11-25T12:00:00Z")
    await reconciler._reconcile()
    assert ("apply", "Service", "test-database") not in kube.asked
    assert condition_of(kube, "Stalled")["status"] == "False"
    kube.present.clear()
    await reconciler._reconcile()
    assert ("apply", "Service", "test-database") in kube.asked


async def test_claim_is_applied_when_it_outlived_an_earlier_run(said: dict[str, Any]):
    cluster = FakeCluster(run_object(storage={"retain": True}))
    cluster.reconcile()
    claim = cluster.objects["PersistentVolumeClaim", "test-artifacts"]
    assert "ownerReferences" not in claim["metadata"]
    reconciler, kube, _ = reconciler_of(cluster)
    kube.present = {("PersistentVolumeClaim", "test-artifacts"): claim}
    await reconciler._reconcile()
    assert ("apply", "PersistentVolumeClaim", "test-artifacts") in kube.asked


async def test_deployment_of_an_ended_run_returns_when_it_was_deleted(said: dict[str, Any]):
    """At once, and within ten minutes where a watch missed it."""
    cluster = FakeCluster(run_object())
    assert cluster.run() == "Complete"
    said["generation"] = cluster.desired()["generation"]
    reconciler, kube, _ = reconciler_of(cluster)
    deployment = ("apply", "Deployment", "test")
    for _ in range(3):
        await reconciler._reconcile()
        said["generation"] = kube.generation
    assert await reconciler._reconcile() == cluster.settings.heal_seconds == 600
    assert ("apply", "ServiceAccount", "test") in kube.asked
    applied = kube.asked.count(deployment)
    await reconciler._reconcile()
    assert kube.asked.count(deployment) == applied, "it was applied a short while ago"
    reconciler.forget(ObjectRef("apps/v1", "Deployment", "team", "test"))
    await reconciler._reconcile()
    assert kube.asked.count(deployment) == applied + 1


async def test_status_of_a_served_run_stays_when_the_operator_restarts(said: dict[str, Any]):
    """The watch of runs reports the run before the watches of its objects report anything."""
    cluster = FakeCluster(run_object())
    assert cluster.run() == "Complete"
    for _ in range(3):
        cluster.reconcile()
    said["generation"] = cluster.desired()["generation"]
    cache = Cache()
    cache.keep_run(copy.deepcopy(cluster.body) | {"status": cluster.status})
    there = Cache()
    for thing in cluster.objects.values():
        there.keep(copy.deepcopy(thing))
    kube = FakeKube(there)
    reconciler = Reconciler(("team", "test"), kube, cache, cluster.settings, Metrics(), asyncio.Semaphore())
    for _ in range(3):
        await reconciler._reconcile()
    assert kube.statuses == []


async def test_no_job_is_created_when_its_configuration_is_refused(said: dict[str, Any]):
    cluster = FakeCluster(run_object())
    while not cluster.created:
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            cluster.end_job(job, "Complete")
    for kind, name in list(cluster.objects):
        if kind == "ConfigMap" or (kind == "Job" and "prepare" in name):
            del cluster.objects[kind, name]
    reconciler, kube, _ = reconciler_of(cluster)
    kube.refuses["ConfigMap"] = "must have at most 1048576 bytes"
    await reconciler._reconcile()
    stalled = condition_of(kube, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", Stalled.OBJECT_REJECTED)
    assert kube.refuses["ConfigMap"] in stalled["message"]
    assert not [name for _, kind, name in kube.asked if kind == "Job"]
    kube.refuses.clear()
    await reconciler._reconcile()
    assert [kind for _, kind, _ in kube.asked if kind in ("ConfigMap", "Job")] == ["ConfigMap", "Job"]


async def test_ended_run_is_stalled_when_its_service_is_refused(said: dict[str, Any]):
    cluster = FakeCluster(run_object())
    assert cluster.run() == "Complete"
    reconciler, kube, _ = reconciler_of(cluster)
    kube.refuses["Service"] = "quota"
    await reconciler._reconcile()
    stalled = condition_of(kube, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", Stalled.OBJECT_REJECTED)
    assert "Service test" in stalled["message"]
    kube.refuses.clear()
    await reconciler._reconcile()
    assert condition_of(kube, "Stalled")["status"] == "False"


async def test_status_is_written_again_when_another_writer_changed_it(
    said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    now = 1000.0
    monkeypatch.setattr(reconcile.time, "monotonic", lambda: now)
    cluster = FakeCluster(run_object())
    reconciler, kube, cache = reconciler_of(cluster)
    await reconciler._reconcile()
    written = kube.statuses[-1]
    earlier = cache.runs["team", "test"]
    for status in (earlier.get("status", {}), {**written, "progress": {"text": "1/2"}}):  # what the watch tells later
        cache.keep_run({**earlier, "status": status})
        await reconciler._reconcile()
    before = len(kube.statuses)
    cache.keep_run({**earlier, "status": {**written, "phase": "Failed"}})
    await reconciler._reconcile()
    assert len(kube.statuses) == before, "not at once: two writers would continue forever"
    now += 61
    await reconciler._reconcile()
    assert len(kube.statuses) == before + 1
    assert kube.statuses[-1]["phase"] != "Failed"


async def test_events_are_listed_once_when_many_pods_are_pending(said: dict[str, Any]):
    cluster = FakeCluster(run_object())
    reconciler, kube, cache = reconciler_of(cluster)
    labels = {"distillery.dev/run": "test"}
    made = {"namespace": "team", "labels": labels, "creationTimestamp": "2026-11-25T11:00:00Z"}
    job: Manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {**made, "name": "j", "uid": "j"}, "spec": {}}
    job["metadata"]["labels"] = labels | {STAGE_LABEL: "prepare"}
    cache.keep({**job, "status": {"active": 50}})
    for number in range(50):
        metadata = {**made, "name": f"p{number}", "uid": str(number), "ownerReferences": owned_by("Job", job)}
        cache.keep({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": "Pending"}})
    await reconciler._reconcile()
    assert kube.listed.count("Event") == 1


async def test_deleted_object_is_applied_when_it_is_needed_again(said: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    clock = itertools.count(1000.0, POLL_INTERVAL_SECONDS)
    monkeypatch.setattr(reconcile.time, "monotonic", lambda: next(clock))
    cluster = CanaryScenario.start(weights="merged")
    said["generation"] = cluster.desired()["generation"]
    reconciler, kube, cache = reconciler_of(cluster)
    service, deleted = ("apply", "Service", "test-canary"), ("delete", "Service", "test-canary")
    for number, times, gone in ((None, 1, False), (1, 1, False), (1, 1, True), (None, 2, True)):
        body = copy.deepcopy(cache.runs["team", "test"])
        body["spec"]["serving"].pop("pinnedRound", None)
        if number:
            body["spec"]["serving"]["pinnedRound"] = number
        cache.keep_run(body)
        await reconciler._reconcile()
        assert kube.asked.count(service) == times
        assert (deleted in kube.asked) == gone, "not before pods say that they send it nothing"
        said["generation"] = kube.generation


@pytest.mark.parametrize(("status", "harmless"), [(404, True), (403, False)])
async def test_annotation_is_skipped_when_the_pod_is_gone(status: int, harmless: bool, monkeypatch: pytest.MonkeyPatch):
    sent: list[tuple[str, str, Any, str]] = []

    async def request(_: KubeClient, method: str, path: str, *, body: Any, content: str) -> Manifest:
        sent.append((method, path, body, content))
        raise ApiError(status, "", "no")

    monkeypatch.setattr(KubeClient, "request", request)
    pod = ObjectRef("v1", "Pod", "team", "test-0")
    if harmless:
        await KubeClient().annotate(pod, {"a": "b"})
    else:
        with pytest.raises(ApiError):
            await KubeClient().annotate(pod, {"a": "b"})
    body = {"metadata": {"annotations": {"a": "b"}}}
    assert sent == [("PATCH", "/api/v1/namespaces/team/pods/test-0", body, "application/merge-patch+json")]
