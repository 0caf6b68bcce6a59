"""Pods on a platform that assigns users and groups, as OpenShift does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from distillery_operator.settings import Settings
from tests.unit.operator.manifests.test_manifests import (
    ADAPTER,
    GPU,
    IN_S3,
    KEYS,
    SETTINGS,
    everything,
    owner,
    pod_specs,
    serving,
)

ASSIGNED = replace(SETTINGS, platform_assigns_ids=True)


def names_in(value: Any) -> Iterator[str]:
    """The names of all fields of a manifest."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for name, below in value.items():
            yield str(name)
            yield from names_in(below)


@pytest.mark.parametrize("spec", [{}, GPU, ADAPTER, KEYS, IN_S3, {"serving": {"feedback": {}}}])
def test_no_manifest_names_ids_when_the_platform_assigns_them(spec: dict[str, Any]):
    """OpenShift's restricted-v2 refuses pods with others than it assigns."""
    ids = {"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"}
    for made in everything(owner(**spec), ASSIGNED):
        assert not ids & set(names_in(made)), made["metadata"]["name"]
    for pod in pod_specs(owner(**spec), ASSIGNED):
        assert pod["securityContext"]["runAsNonRoot"] is True
    assert ids & set(names_in(serving(owner(**spec))))


def test_settings_refuse_what_is_neither_true_nor_false():
    with pytest.raises(ValueError, match="DISTILLERY_PLATFORM_ASSIGNS_IDS is 'yes': write true or false"):
        Settings.from_environment({"DISTILLERY_PLATFORM_ASSIGNS_IDS": "yes"})
    assert Settings.from_environment({"DISTILLERY_PLATFORM_ASSIGNS_IDS": "true"}).platform_assigns_ids
