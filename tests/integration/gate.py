"""An environment of a test's own: ALFWorld's generated games behind a key that only the stage ``prepare`` looks for."""

from __future__ import annotations

import os
from pathlib import Path

MODULE = """
import time
from pathlib import Path

from distillery_alfworld.environment import ALFWorld
from distillery.environments.base import EnvironmentConfigurationError


class Gate(ALFWorld):
    name = "gate"

    def __init__(self, options, folder):
        super().__init__({"games": "generated"}, folder)
        self.key = Path(options["key"])

    def prepare(self, wanted, *, report=lambda done, total: None):
        if not self.key.exists():
            raise EnvironmentConfigurationError(f"the key {self.key} is not there")
        while self.key.read_text() == "stuck":
            time.sleep(0.1)
        super().prepare(wanted, report=report)
"""


def install(folder: Path) -> dict[str, str]:
    """Make the package in a folder; what the environment of a command needs to find it."""
    information = folder / "gate-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: gate\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[distillery.environments]\ngate = gate:Gate\n")
    (folder / "gate.py").write_text(MODULE)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))}
