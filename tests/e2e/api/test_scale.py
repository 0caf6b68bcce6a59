"""The number of servers on a real API server: the subresource ``scale``, and who owns a Deployment's replicas."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from distillery_operator.decide.replicas import HANDOVER, replicas_to_keep
from distillery_operator.kube.client import CONTROLLER
from hack.testbed.client.api import Api
from tests.e2e.support.documents import small
from tests.e2e.support.runs import Runs, space

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def users(api: Api) -> Generator[Runs]:
    with space(api, "e2e-scale") as made:
        yield made


def test_scale_of_a_run_sets_its_replicas(users: Runs):
    users.apply(small("scaled", suspend=True))
    path = f"{users.collection}/scaled/scale"
    assert users.api.get(path)["spec"]["replicas"] == 1
    users.api.merge(path, {"spec": {"replicas": 3}})
    assert users.get("scaled")["spec"]["serving"]["replicas"] == 3
    status = {"serving": {"student": "x", "round": 1, "url": "u", "model": "scaled", "replicas": 2, "selector": "a=b"}}
    users.api.merge(f"{users.collection}/scaled/status", {"status": status})
    assert users.api.get(path)["status"] == {"replicas": 2, "selector": "a=b"}


def test_replicas_stay_when_the_operator_stops_managing_them(users: Runs):
    collection = f"/apis/apps/v1/namespaces/{users.namespace}/deployments"
    path = f"{collection}/servers"

    def apply(manifest: dict[str, Any], manager: str = CONTROLLER) -> None:
        users.api.apply(path, manifest, fieldManager=manager, force="true")

    def replicas() -> int:
        return users.api.get(path)["spec"]["replicas"]

    labels = {"app": "servers"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "localhost/none:1"}]}}
    without: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "servers", "namespace": users.namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    apply({**without, "spec": {**without["spec"], "replicas": 4}})
    first = replicas_to_keep(without, users.api.get(path), CONTROLLER)
    assert first
    apply(first, HANDOVER)
    apply(without)
    assert replicas() == 4
    users.api.merge(f"{path}/scale", {"spec": {"replicas": 7}})  # as an autoscaler does
    assert replicas_to_keep(without, users.api.get(path), CONTROLLER) is None
    apply(without)
    assert replicas() == 7
    apply({**without, "spec": {**without["spec"], "replicas": 2}})
    assert replicas() == 2
