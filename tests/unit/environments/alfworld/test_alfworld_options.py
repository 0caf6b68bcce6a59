"""What ALFWorld can be asked for, and how it says no."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distillery.environments.base import EnvironmentConfigurationError
from distillery_alfworld.environment import ALFWorld


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that $ALFWORLD_DATA names and that has ALFWorld's layout."""
    (tmp_path / "data" / "json_2.1.1" / "train").mkdir(parents=True)
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("options", [{}, {"games": "auto"}, {"games": "alfworld"}])
def test_real_games_are_used_when_they_exist(options: dict[str, Any], tmp_path: Path) -> None:
    assert ALFWorld(options, tmp_path).source == "ALFWorld"


@pytest.mark.usefixtures("data")
def test_generated_games_are_used_when_requested(tmp_path: Path) -> None:
    assert ALFWorld({"games": "generated", "seed": 7}, tmp_path).source == "generated games (seed 7, generator v1)"


@pytest.mark.usefixtures("no_data")
def test_generated_games_are_used_when_there_are_no_others(tmp_path: Path) -> None:
    assert ALFWorld({}, tmp_path).source == "generated games (seed 0, generator v1)"


@pytest.mark.usefixtures("no_data")
def test_error_explains_how_to_get_games_when_they_are_missing(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentConfigurationError, match=r"ALFWORLD_DATA isn't set.*alfworld-download.*generated"):
        ALFWorld({"games": "alfworld"}, tmp_path)


@pytest.mark.parametrize("games", ["auto", "alfworld"])
def test_error_names_the_folder_without_games(games: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    with pytest.raises(EnvironmentConfigurationError, match=f"{tmp_path}, which has no folder json_2.1.1"):
        ALFWorld({"games": games}, tmp_path)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"game": "auto"}, "no option 'game'; did you mean games?"),
        ({"zzz": 1}, "no option 'zzz'; it has games and seed"),
        ({"games": "own"}, "games is auto, alfworld or generated, not 'own'"),
        ({"seed": "one"}, "seed is a whole number from 0, not 'one'"),
        ({"seed": -1}, "seed is a whole number from 0, not -1"),
        ({"seed": True}, "seed is a whole number from 0, not True"),
    ],
)
def test_option_error_names_the_option_and_its_values(options: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentConfigurationError) as caught:
        ALFWorld(options, tmp_path)
    assert complaint in str(caught.value)


def test_catalog_loads_no_engine() -> None:
    code = "import sys, distillery_alfworld.environment, distillery.environments.pool.pool\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"textworld", "fast_downward", "alfworld", "numpy"} & set(loaded)
