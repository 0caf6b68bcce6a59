"""The cache of watched objects, and lists of them."""

from __future__ import annotations

from typing import Any

import pytest

from distillery_operator.cache import Cache
from distillery_operator.model.names import RUN_LABEL
from distillery_operator.model.objects import Manifest
from tests.fakes.cluster import UID, owned_by

KEY = ("team", "test")


def child(kind: str, name: str, *, owners: list[dict[str, Any]] | None = None, **more: Any) -> Manifest:
    run = [{"kind": "DistillationRun", "name": "test", "uid": UID, "controller": True}]
    metadata = {"name": name, "namespace": "team", "uid": name, "labels": {RUN_LABEL: "test"}}
    return {"kind": kind, "metadata": {**metadata, "ownerReferences": run if owners is None else owners}, **more}


def test_cache_keeps_events_that_arrive_during_a_list():
    cache = Cache()
    for name in ("changed", "deleted", "missed"):
        cache.keep(child("Job", name, status={}))
    since = cache.moment
    listed = [child("Job", name, status={}) for name in ("changed", "deleted", "found")]
    cache.keep(child("Job", "changed", status={"succeeded": 1}))
    cache.keep(child("Job", "new"))
    cache.drop(child("Job", "deleted"))
    cache.replace(KEY, listed, since=since)
    jobs = cache.observe(KEY, UID).jobs
    assert sorted(jobs) == ["changed", "found", "new"]
    assert jobs["changed"]["status"] == {"succeeded": 1}


def test_cache_keeps_the_list_when_no_event_arrives():
    cache = Cache()
    cache.keep(child("Job", "missed"))
    cache.replace(KEY, [child("Job", "found")], since=cache.moment)
    assert list(cache.observe(KEY, UID).jobs) == ["found"]


def test_pod_counts_when_it_was_made_for_a_workload_of_the_run():
    cache = Cache()
    job, deployment = child("Job", "job"), child("Deployment", "test")
    replica_set = [{"kind": "ReplicaSet", "name": "test-5d4f", "uid": "rs", "controller": True}]
    other = [{"kind": "ReplicaSet", "name": "other-5d4f", "uid": "rs2", "controller": True}]
    for thing in (
        job,
        deployment,
        child("Pod", "worker", owners=owned_by("Job", job)),
        child("Pod", "server", owners=replica_set),
        child("Pod", "labeled", owners=[]),
        child("Pod", "foreign", owners=other),
    ):
        cache.keep(thing)
    assert {pod["metadata"]["name"] for pod in cache.observe(KEY, UID).pods} == {"worker", "server"}


@pytest.mark.parametrize("first", ["children", "run"])
def test_cache_is_empty_when_a_run_and_its_objects_are_deleted(first: str):
    cache, run, job = Cache(), {"metadata": {"name": "test", "namespace": "team", "uid": UID}}, child("Job", "job")
    cache.keep_run(run)
    cache.keep(job)
    for step in (first, "run" if first == "children" else "children"):
        if step == "run":
            cache.drop_run(run)
        else:
            cache.drop(job)
    assert (cache.runs, cache._children, cache._reported) == ({}, {}, {})
