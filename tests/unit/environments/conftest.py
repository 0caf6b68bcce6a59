"""Registers the fake environment of this folder, here and for the worker processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.paths import ROOT


@pytest.fixture(autouse=True)
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution = tmp_path / "plugins" / "fake_environment-1.0.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-environment\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text(
        "[distillery.environments]\n"
        "fake = tests.fakes.environments:FakeEnvironment\n"
        "counted = tests.fakes.environments:Counted\n"
        "broken = tests.unit.environments.no_such_module:Nothing\n"
    )
    path = [str(distribution.parent), str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.syspath_prepend(str(distribution.parent))
