"""The documents in examples/ are valid, and ask their environments for options that they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillery.core import plugins
from distillery.core.api import load
from distillery.core.api.rules import warning_of
from distillery.environments.base import EnvironmentConfigurationError

FOLDER = Path(__file__).parents[3] / "examples"
EXAMPLES = sorted({*FOLDER.rglob("*.yaml")} - {FOLDER / "kubernetes" / "cloudnativepg.yaml"})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_example_is_valid(path: Path, tmp_path: Path):
    run = load(path)
    assert run.metadata.name == path.stem or path.stem == "demo"
    environment = run.spec.environment
    try:
        plugins.load("environments", environment.name)(environment.options, tmp_path)
    except EnvironmentConfigurationError as error:
        assert "_DATA isn't set" in str(error)  # noqa: PT017 - it may also be set, and then nothing is raised


def test_production_example_sets_what_a_cluster_needs():
    spec = load(FOLDER / "kubernetes" / "production.yaml").spec
    assert warning_of(spec) == ""
    given = spec.model_dump(by_alias=True, exclude_defaults=True)
    assert {
        "gpuPodTemplate",
        "podTemplate",
        "storage",
        "database",
        "queueName",
        "modelServer",
        "stages",
        "rounds",
    } <= given.keys()
    assert spec.storage.uri
    assert spec.storage.uri.startswith("s3://")
    assert spec.gpu_pod_template.node_selector
    assert spec.gpu_pod_template.tolerations
    assert given["serving"].keys() >= {"canary", "gateway", "feedback", "resources", "replicas"}
