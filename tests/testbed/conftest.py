"""The node for tests: brought up once, and a namespace of its own for each test."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from hack.testbed import node
from hack.testbed.client.kubectl import Kubectl, eventually
from hack.testbed.places import Places


def require_node() -> None:
    """Skip the calling module unless the tests of the node were asked for."""
    if os.environ.get("DISTILLERY_CLUSTER_TESTS") != "1":
        reason = "set DISTILLERY_CLUSTER_TESTS=1 for a real Kubernetes (root, Go; 40 minutes on a new machine)"
        pytest.skip(reason, allow_module_level=True)


@pytest.fixture(scope="session")
def places() -> Places:
    """Where the node lives."""
    return Places.from_environment()


@pytest.fixture(scope="session")
def running_node(places: Places) -> Places:
    """The node, up."""
    node.up(places, bases=True)
    return places


@pytest.fixture
def kubectl(running_node: Places, request: pytest.FixtureRequest) -> Generator[Kubectl]:
    """Kubectl in a namespace for this test alone, with the restricted pod security that the project's own have."""
    name = f"test-{abs(hash(request.node.nodeid)) % 10**8}"
    made = Kubectl(running_node, name)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    eventually("a service account", lambda: made("get", "serviceaccount", "--output=name"))
    yield made
    made("delete", "namespace", name, "--wait=false")
