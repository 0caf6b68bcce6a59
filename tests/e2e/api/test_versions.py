"""All that is made is made of what the oldest supported Kubernetes has."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from hack.testbed.client import schemas
from hack.testbed.machine import programs
from hack.testbed.places import Places
from tests.e2e.conftest import CHART, template
from tests.e2e.support.cluster import Cluster
from tests.unit.operator.manifests.test_manifests import ADAPTER, GPU, IN_S3, KEYS, everything, owner

pytestmark = pytest.mark.full

OLDEST = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"].removeprefix(">=").removesuffix("-0")
OTHERS = "ServiceMonitor,PodMonitor,PrometheusRule"
"""Kinds that are not Kubernetes' own."""
RUNS: list[dict[str, Any]] = [
    {},
    {**GPU, **IN_S3},
    {**ADAPTER, **GPU},
    {**KEYS, "queueName": "gpus"},
    {"promotion": {"weights": "adapter"}, "serving": {"feedback": {}}},
]


class Kubeconform:
    """kubeconform with the schemas of one version."""

    def __init__(self, places: Places, version: str) -> None:
        programs.build(places, (programs.KUBECONFORM,))
        location = f"{schemas.of(places, version)}/{schemas.LOCATION}"
        self._command = [
            places.program("kubeconform"), "-strict", "-summary", "-schema-location", location, "-skip", OTHERS, "-",
        ]  # fmt: skip

    def complaints(self, manifests: list[dict[str, Any]]) -> str:
        """What it says of manifests, unless all of them are valid."""
        done = subprocess.run(self._command, input=yaml.safe_dump_all(manifests), capture_output=True, text=True)
        return done.stdout + done.stderr if done.returncode else ""


@pytest.fixture(scope="module")
def oldest() -> Kubeconform:
    return Kubeconform(Places.from_environment(), OLDEST)


def manifests(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All that the operator makes of a run."""
    yield from everything(owner(**spec))


@pytest.mark.parametrize("spec", RUNS)
def test_oldest_kubernetes_has_every_field_of_the_operators_objects(oldest: Kubeconform, spec: dict[str, Any]):
    assert oldest.complaints(list(manifests(spec))) == ""


def test_oldest_kubernetes_has_every_field_of_the_charts_objects(oldest: Kubeconform, cluster: Cluster):
    on = [f"{name}.enabled=true" for name in ("serviceMonitor", "alerts", "dashboards")]
    assert oldest.complaints(template(cluster, *on, "replicas=2")) == ""
    assert oldest.complaints(template(cluster, "watchNamespaces={team-a}")) == ""


def test_field_is_reported_when_the_oldest_kubernetes_lacks_it(oldest: Kubeconform):
    made = next(manifest for manifest in manifests({}) if manifest["kind"] == "Job")
    made["spec"]["template"]["spec"]["hostnameOverride"] = "new"  # since 1.34
    assert "hostnameOverride" in oldest.complaints([made])
