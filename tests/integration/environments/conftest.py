"""Where the games of the integration tests come from."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from distillery_alfworld.environment import ALFWorld

REAL_GAMES = "DISTILLERY_TEST_ALFWORLD_DATA"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Generator[None, None, None]:
    """A cache of translations for these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILLERY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """ALFWorld's own data, the folder that holds json_2.1.1."""
    if not (folder := os.environ.get(REAL_GAMES)):
        pytest.skip(f"needs ALFWorld's own games: set {REAL_GAMES} to the folder that `alfworld-download` filled")
    return Path(folder)


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory, cache: None) -> Path:
    """A folder with generated games of all types: 12 to learn from, 6 of each of the other splits."""
    folder = tmp_path_factory.mktemp("generated")
    ALFWorld({"games": "generated", "seed": 1}, folder).prepare({"train": 12, "valid_seen": 6, "valid_unseen": 6})
    return folder
