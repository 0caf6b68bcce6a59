"""The catalog reads game files as stock ALFWorld's loader does, and names the ones that it can't read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distillery.environments.base import EnvironmentConfigurationError, Task
from distillery_alfworld.environment import ALFWorld

GRAMMAR = 'grammar :: """{"task": [{"rhs": "Your task is to: put a clean mug in desk."}]}"""'


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "json_2.1.1" / "train"
    folder.mkdir(parents=True)
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    return folder


def add(train: Path, name: str, **parts: Any) -> Path:
    file = train / name / "trial_1" / "game.tw-pddl"
    file.parent.mkdir(parents=True)
    content = {"pddl_domain": "d", "pddl_problem": "p", "grammar": GRAMMAR, "solvable": True, "walkthrough": []}
    file.write_text(json.dumps(content | parts))
    return file


def catalog() -> list[Task]:
    return list(ALFWorld({}, Path()).catalog("train"))


def test_game_becomes_a_task_with_category_and_goal(train: Path) -> None:
    add(train, "pick_clean_then_place_in_recep-Mug-None-Desk-301")
    task_id = "train/pick_clean_then_place_in_recep-Mug-None-Desk-301/trial_1"
    assert catalog() == [Task(task_id, "train", "clean", "put a clean mug in desk")]


@pytest.mark.parametrize(
    ("task_type", "category"),
    [
        ("pick_and_place_simple", "put"),
        ("look_at_obj_in_light", "examine"),
        ("pick_clean_then_place_in_recep", "clean"),
        ("pick_heat_then_place_in_recep", "heat"),
        ("pick_cool_then_place_in_recep", "cool"),
        ("pick_two_obj_and_place", "puttwo"),
    ],
)
def test_task_type_has_its_category(train: Path, task_type: str, category: str) -> None:
    add(train, f"{task_type}-Mug-None-Desk-301")
    assert [task.category for task in catalog()] == [category]


def test_tasks_are_sorted_by_id(train: Path) -> None:
    for kind in ("Pen", "Mug", "Cup"):
        add(train, f"pick_and_place_simple-{kind}-None-Desk-301")
    ids = [task.id for task in catalog()]
    assert ids == sorted(ids)
    assert len(ids) == 3


def test_catalog_excludes_the_games_that_stock_alfworld_excludes(train: Path) -> None:
    add(train, "pick_and_place_with_movable_recep-Pen-Mug-Desk-301")
    add(train, "pick_heat_then_place_in_recep-AppleSliced-None-Desk-1")
    add(train, "pick_and_place_simple-Mug-None-Desk-301", solvable=False)
    add(train, "stack_blocks-Mug-None-Desk-301")
    assert catalog() == []


@pytest.mark.parametrize("damage", [b"", b'{"pddl_domain": "d", "pddl_pro', b"[]", b'{"solvable": true}', b"\xff\xfe"])
def test_catalog_names_the_game_when_it_is_damaged(train: Path, damage: bytes) -> None:
    file = add(train, "pick_and_place_simple-Mug-None-Desk-301")
    file.write_bytes(damage)
    with pytest.raises(EnvironmentConfigurationError, match=str(file)):
        catalog()


def test_catalog_names_the_game_when_it_has_no_task(train: Path) -> None:
    file = add(train, "pick_and_place_simple-Mug-None-Desk-301", grammar="")
    with pytest.raises(EnvironmentConfigurationError, match=str(file)):
        catalog()


@pytest.mark.usefixtures("train")
def test_catalog_lists_the_splits_when_one_is_unknown() -> None:
    with pytest.raises(EnvironmentConfigurationError, match=r"no split 'test' .*there are train"):
        ALFWorld({}, Path()).catalog("test")


def test_catalog_fails_when_games_are_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentConfigurationError, match="run prepare first"):
        ALFWorld({"games": "generated"}, tmp_path).catalog("train")
