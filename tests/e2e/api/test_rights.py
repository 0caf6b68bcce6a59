"""What the operator was granted is what it used, in all that the tests before this one had it do."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from hack.testbed.client import audit
from hack.testbed.places import Places
from tests.e2e.conftest import RELEASE, STUCK, SYSTEM
from tests.e2e.release.test_chart import template
from tests.e2e.support.cluster import RUN, Cluster, Namespace

CANARY = {
    ("apps", "deployments", "delete"),
    ("", "services", "delete"),
    ("", "configmaps", "delete"),
    ("networking.k8s.io", "networkpolicies", "delete"),
}
"""What the end of a canary takes that has a server of its own. `make e2e` has no such canary."""


def granted(cluster: Cluster) -> set[tuple[str, str, str]]:
    """Group, resource and verb of every right of the operator."""
    return {
        (group, resource, verb)
        for manifest in template(cluster, "aggregatedRoles.enabled=false")
        for rule in manifest.get("rules", [])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@dataclass(frozen=True)
class Asked:
    """What the operator asked the API server for.

    Attributes:
        ever: by group, resource and verb, since the node's audit log began.
        refused: since it got the rights that it has: one that was uninstalled before has lost its rights sooner than
            its life, and an earlier release has others.
    """

    ever: set[tuple[str, str, str]]
    refused: set[audit.Request]


@pytest.fixture(scope="module")
def asked(failed: Namespace, operator: Namespace, places: Places) -> Asked:
    """Whatever else ran before: a run that ended and leaves takes the last rights."""
    failed.kubectl("patch", RUN, STUCK, "--type=merge", '--patch={"spec": {"ttlSecondsAfterFinished": 1}}')
    failed.wait_for("the end of its Jobs", lambda: not failed.list("jobs", f"distillery.dev/run={STUCK}"))
    user = f"system:serviceaccount:{SYSTEM}:{RELEASE}"
    return Asked(
        {(request.group, request.resource, request.verb) for request in audit.requests(places, user)},
        {request for request in audit.requests(places, user, since=granted_at(operator)) if not request.allowed},
    )


def granted_at(operator: Namespace) -> str:
    """Return when the rights of the operator were changed last: an earlier release has others."""
    role = json.loads(operator.kubectl("get", "clusterrole", RELEASE, "--output=json", "--show-managed-fields"))
    return max(fields["time"] for fields in role["metadata"]["managedFields"])


def test_no_request_of_the_operator_is_refused(asked: Asked):
    assert asked.ever
    assert asked.refused == set()


def test_every_granted_right_is_used_except_for_canaries(asked: Asked, cluster: Cluster):
    assert granted(cluster) - asked.ever <= CANARY


@pytest.mark.full
def test_granted_rights_equal_the_used_ones(asked: Asked, cluster: Cluster):
    assert granted(cluster) - asked.ever == set()
