"""All runs at once, as at the start of an operator that has thousands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from distillery_operator import main
from distillery_operator.cache import CHILDREN, UNKEPT, owner_of
from distillery_operator.kube.client import KubeClient
from distillery_operator.manager import Manager
from distillery_operator.metrics import Metrics
from distillery_operator.model.names import MANAGED_BY, RUN_LABEL
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.reconcile import Reconciler
from distillery_operator.settings import Settings
from tests.fakes.cluster import FakeCluster, run_object


async def test_manager_reconciles_few_runs_when_many_are_due(monkeypatch: pytest.MonkeyPatch):
    names = {f"run-{number}" for number in range(500)}
    looking, most, seen, all_seen = 0, 0, set[str](), asyncio.Event()

    async def look(self: Reconciler) -> None:
        nonlocal looking, most
        looking += 1
        most = max(most, looking)
        await asyncio.sleep(0.001)
        looking -= 1
        seen.add(self._key[1])
        if seen == names:
            all_seen.set()

    monkeypatch.setattr(Reconciler, "_reconcile", look)
    manager = Manager(KubeClient(), FakeCluster(run_object()).settings, Metrics())
    for name in names:
        body = run_object()
        manager.run_changed({**body, "metadata": {**body["metadata"], "name": name, "uid": name}})
    async with asyncio.timeout(60):
        await all_seen.wait()
    await manager.stop()
    assert 1 < most <= 32


async def test_manager_reconciles_other_namespaces_when_one_is_slow(monkeypatch: pytest.MonkeyPatch):
    looked_at = asyncio.Event()

    async def look(self: Reconciler) -> None:
        if self._key[0] == "quick":
            looked_at.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(Reconciler, "_reconcile", look)
    manager = Manager(KubeClient(), FakeCluster(run_object()).settings, Metrics())
    for namespace, number in (("slow", 100), ("quick", 1)):
        for name in map(str, range(number)):
            body = run_object()
            metadata = {**body["metadata"], "namespace": namespace, "name": name, "uid": f"{namespace}-{name}"}
            manager.run_changed({**body, "metadata": metadata})
    async with asyncio.timeout(10):
        await looked_at.wait()
    await manager.stop()


@pytest.mark.parametrize(("gone", "dying"), [(True, False), (False, True), (False, False)])
async def test_reconciler_forgets_an_object_when_it_is_deleted(
    monkeypatch: pytest.MonkeyPatch, gone: bool, dying: bool
):
    forgotten: list[ObjectRef] = []
    monkeypatch.setattr(Reconciler, "forget", lambda self, reference: forgotten.append(reference))
    manager = Manager(KubeClient(), FakeCluster(run_object()).settings, Metrics())
    manager.run_changed(run_object())
    metadata = {"name": "test", "namespace": "team", "labels": {RUN_LABEL: "test"}}
    if dying:
        metadata["deletionTimestamp"] = "2026-11-25T12:00:00Z"
    manager.child_changed({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}, gone=gone)
    await manager.stop()
    assert forgotten == [ObjectRef("apps/v1", "Deployment", "team", "test")] * (gone or dying)


@pytest.mark.parametrize(("version", "kind"), [(version, kind) for version, kind, _ in UNKEPT])
async def test_manager_wakes_a_run_when_an_unkept_object_is_deleted(
    monkeypatch: pytest.MonkeyPatch, version: str, kind: str
):
    calls = list[object]()
    monkeypatch.setattr(Reconciler, "forget", lambda self, reference: calls.append(reference))
    manager = Manager(KubeClient(), FakeCluster(run_object()).settings, Metrics())
    manager.run_changed(run_object())
    monkeypatch.setattr(Reconciler, "wake", lambda self: calls.append("looked at"))
    metadata = {"name": "test", "namespace": "team", "labels": {RUN_LABEL: "test"}}
    manager.unkept_gone({"apiVersion": version, "kind": kind, "metadata": metadata})
    await manager.stop()
    assert calls == [ObjectRef(version, kind, "team", "test"), "looked at"]


@pytest.mark.parametrize(("version", "kind", "plural"), UNKEPT)
async def test_manager_watches_deletions_of_kinds_that_it_does_not_cache(
    monkeypatch: pytest.MonkeyPatch, version: str, kind: str, plural: str
):
    gone = list[Manifest]()
    monkeypatch.setattr(Manager, "unkept_gone", lambda self, child: gone.append(child))
    manager = Manager(KubeClient(), FakeCluster(run_object()).settings, Metrics())
    handlers = main._handlers(manager, Metrics())._watching.get_all_handlers()
    handle: Any = next(handler.fn for handler in handlers if handler.id == f"on-{plural}")
    for event in ("ADDED", "MODIFIED", "DELETED"):
        await handle(event={"type": event, "object": {"metadata": {"name": event}}})
    assert gone == [{"apiVersion": version, "kind": kind, "metadata": {"name": "DELETED"}}]


def test_every_kind_that_is_applied_is_watched():
    cluster = FakeCluster(run_object())
    assert cluster.run() == "Complete"
    watched = {kind for _, kind, _ in (*CHILDREN, *UNKEPT)}
    applied = {kind: thing for (kind, _), thing in cluster.objects.items() if kind not in ("Secret", "Pod")}
    assert applied.keys() <= watched
    for thing in applied.values():
        assert thing["metadata"]["labels"].items() >= MANAGED_BY.items()
        assert owner_of(thing) == ("team", "test")


@pytest.mark.parametrize(
    ("instance", "selector"),
    [("", "!distillery.dev/controller-instance-id"), ("blue", "distillery.dev/controller-instance-id=blue")],
)
async def test_runs_of_other_instances_are_neither_watched_nor_listed(
    monkeypatch: pytest.MonkeyPatch, instance: str, selector: str
):
    asked = list[dict[str, str]]()

    async def list_all(self: KubeClient, collection: str, **selectors: str) -> list[Manifest]:
        asked.append(selectors)
        return []

    monkeypatch.setattr(KubeClient, "list_all", list_all)
    settings = Settings.from_environment({"DISTILLERY_CONTROLLER_INSTANCE_ID": instance})
    assert await Manager(KubeClient(), settings, Metrics())._list_runs() == []
    assert asked == [{"labelSelector": selector}]
    watching = main._kopf_settings(settings).watching
    assert watching.label_selectors["distillationruns"] == selector


async def test_operator_waits_for_the_crd_when_it_comes_later(monkeypatch: pytest.MonkeyPatch):
    answers, asked = iter([False, False, True]), list[tuple[str, str]]()

    async def serves(self: KubeClient, group_version: str, plural: str) -> bool:
        asked.append((group_version, plural))
        return next(answers)

    monkeypatch.setattr(KubeClient, "serves", serves)
    monkeypatch.setattr(main, "_CRD_SECONDS", 0)
    await main._wait_for_crd(KubeClient(), Metrics())
    assert asked == [("distillery.dev/v1alpha1", "distillationruns")] * 3
