"""What the operator was granted is what it used, in all that the tests before this one had it do."""

from __future__ import annotations

import pytest

from tests.e2e.cluster import RUN, Cluster, Namespace
from tests.e2e.conftest import RELEASE, STUCK, SYSTEM
from tests.e2e.test_chart import template


def granted(cluster: Cluster) -> set[tuple[str, str, str]]:
    """Group, resource and verb of every right."""
    return {
        (group, resource, verb)
        for manifest in template(cluster)
        for rule in manifest.get("rules", [])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_grant_is_what_is_used(stuck: Namespace, operator: Namespace, cluster: Cluster):
    if cluster.context:
        pytest.skip("the audit log of this cluster is not at hand")
    from tests.cluster import audit
    from tests.cluster.places import Places

    # whatever else ran before: a run that ended and leaves, which takes the last rights
    stuck.kubectl("label", "nodes", "--all", "pool=nosuch")
    try:
        stuck.wait_for("the failure", lambda: stuck.condition(STUCK, "Failed").get("status") == "True")
    finally:
        stuck.kubectl("label", "nodes", "--all", "pool-")
    stuck.kubectl("patch", RUN, STUCK, "--type=merge", '--patch={"spec": {"ttlSecondsAfterFinished": 1}}')
    stuck.wait_for("the end of its Jobs", lambda: not stuck.list("jobs", f"distillery.dev/run={STUCK}"))
    places, user = Places.from_environment(), f"system:serviceaccount:{SYSTEM}:{RELEASE}"
    asked = audit.requests(places, user)
    assert asked
    # one that was uninstalled on this node before has lost its rights sooner than its life
    installed = operator.get("deployment", RELEASE)["metadata"]["creationTimestamp"]
    assert {request for request in audit.requests(places, user, since=installed) if not request.allowed} == set()
    used = {(request.group, request.resource, request.verb) for request in asked}
    assert granted(cluster) - used == set()
