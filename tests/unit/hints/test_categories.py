"""Categories by the likeness of goals, for environments that know none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distillery.environments.base import Task
from distillery.hints.categories import assign_categories, cluster


def points(*directions: int, n: int = 20, spread: float = 0.1) -> NDArray[np.float32]:
    """Unit vectors around axes: ``n`` around each."""
    drawn = np.random.default_rng(0)
    centers = np.repeat(np.eye(16)[list(directions)], n, axis=0)
    vectors = centers + spread * drawn.standard_normal(centers.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def tasks(count: int, *, category: str = "", split: str = "train") -> list[Task]:
    return [Task(f"{split}/{number}", split, category, f"goal {number}") for number in range(count)]


def notation(vectors: NDArray[np.float32]) -> dict[str, str]:
    """Return vectors as pgvector writes them."""
    return {f"goal {number}": str([float(value) for value in vector]) for number, vector in enumerate(vectors)}


def test_cluster_finds_the_number_of_groups():
    for number in range(1, 9):
        assert len(cluster(points(*range(number)))) == number


def test_goals_without_structure_are_of_one_category():
    noise = np.random.default_rng(1).standard_normal((200, 384)).astype(np.float32)
    assert len(cluster(noise / np.linalg.norm(noise, axis=1, keepdims=True))) == 1


def test_goals_are_of_one_category_when_they_are_few_or_equal():
    for vectors in (points(0, n=1), points(0, 1, n=1), points(0, spread=0)):
        assert len(cluster(vectors)) == 1


def test_task_gets_the_category_of_similar_tasks():
    vectors = points(0, 1, 2)
    pinned = {"train": tasks(40), "evaluate": [*tasks(60, split="test")[:10], *tasks(60, split="test")[30:]]}
    given = assign_categories(pinned, notation(vectors), learned_from="train")
    names = [task.category for task in given["train"]]
    assert len(set(names[:20])) == len(set(names[20:])) == 1
    assert names[0] != names[20]
    assert [task.category for task in given["evaluate"][:20]] == names[:10] + names[20:30]
    assert [task.id for task in given["train"]] == [task.id for task in pinned["train"]]


def test_category_is_named_by_its_most_typical_goal():
    vectors = points(0, 1)
    given = assign_categories({"train": tasks(40)}, notation(vectors), learned_from="train")["train"]
    for first in (0, 20):
        own = vectors[first : first + 20]
        typical = first + int((own @ own.mean(axis=0)).argmax())
        assert given[first].category.endswith(f": goal {typical}")


def test_same_goals_give_the_same_categories():
    vectors = points(0, 1, 2, 3, spread=0.3)
    once, again = (assign_categories({"train": tasks(80)}, notation(vectors), learned_from="train") for _ in range(2))
    assert once == again


def test_category_of_the_environment_is_kept():
    pinned = {"train": [*tasks(40)[:20], *tasks(40, category="odd")[20:]]}
    given = assign_categories(pinned, notation(points(0, 1)), learned_from="train")["train"]
    assert {task.category for task in given[20:]} == {"odd"}
    assert all(task.category for task in given)
    known = {"train": tasks(3, category="odd")}
    assert assign_categories(known, {}, learned_from="train") == known


def test_long_goal_is_shortened_in_a_name():
    long = Task("train/0", "train", "", "word " * 100)
    (given,) = assign_categories({"train": [long]}, {long.goal: "[1, 0]"}, learned_from="train")["train"]
    assert len(given.category) <= 64
