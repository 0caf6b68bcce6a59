"""A run that can't get on says why within a minute, and goes on when it is mended."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.cluster import RUN, Namespace
from tests.e2e.documents import small

MINUTE = 60.0


@pytest.mark.parametrize(
    ("name", "spec", "reason", "told"),
    [
        ("no-secret", {"database": {"dsnSecretRef": {"name": "nosuch", "key": "dsn"}}}, "SecretKeyMissing", "nosuch"),
        ("no-class", {"storage": {"claim": {"storageClassName": "nosuch"}}}, "VolumeNotProvisioned", "nosuch"),
        ("no-runtime", {"pods": {"runtimeClassName": "nosuch"}}, "PodsNotCreated", "nosuch"),
        ("no-image", {"pods": {"image": "distillery/nosuch:1"}}, "ImageNotPulled", "distillery/nosuch:1"),
        ("no-node", {"pods": {"nodeSelector": {"pool": "nosuch"}}}, "Unschedulable", "node"),
    ],
)
def test_what_keeps_a_run_from_getting_on_is_told(
    team: Namespace, name: str, spec: dict[str, Any], reason: str, told: str
):
    team.apply(small(name, **spec))
    try:
        team.wait_for(
            f"a condition with reason {reason}",
            lambda: team.condition(name, "Stalled").get("reason") == reason,
            seconds=MINUTE * 3,  # told within one; this machine may be slow
        )
        assert told in team.condition(name, "Stalled")["message"]
        assert team.status(name)["message"] == team.condition(name, "Stalled")["message"]
    finally:
        team.kubectl("delete", RUN, name, "--wait=false")


def test_a_gpu_that_is_not_there_is_told_and_waited_for(team: Namespace):
    limits = {"modelServer": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}
    team.apply(small("gpu", **limits))
    team.wait_for("a stage that plays", lambda: team.stage("gpu", "r1-rollout"), run="gpu")
    team.wait_for(
        "the condition",
        lambda: "nvidia.com/gpu" in team.condition("gpu", "Stalled").get("message", ""),
        seconds=MINUTE * 3,
    )
    assert team.condition("gpu", "Stalled")["reason"] == "Unschedulable"
