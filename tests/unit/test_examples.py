"""The documents in examples/ are valid, and ask their environments for options that they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillery import plugins
from distillery.api import load
from distillery.environments.base import EnvironmentConfigurationError

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted({*FOLDER.rglob("*.yaml")} - {FOLDER / "kubernetes" / "cloudnativepg.yaml"})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_an_example_is_valid(path: Path, tmp_path: Path):
    run = load(path)
    assert run.metadata.name == path.stem or path.stem == "demo"
    environment = run.spec.environment
    try:
        plugins.load("environments", environment.name)(environment.options, tmp_path)
    except EnvironmentConfigurationError as error:
        assert "_DATA isn't set" in str(error)  # noqa: PT017 - it may also be set, and then nothing is raised
