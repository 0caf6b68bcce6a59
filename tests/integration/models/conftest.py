"""The pretraining package, which is a script's and not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

MICRO = Path(__file__).parents[3] / "models" / "micro"
sys.path.insert(0, str(MICRO))


@pytest.fixture(scope="session")
def micro() -> Path:
    """The folder of the demonstration's model."""
    return MICRO
