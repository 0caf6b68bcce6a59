"""Categories for tasks whose environment knows none, so that hints can be typed: by the similarity of their goals.

The goals of the training tasks are clustered by k-means on the sphere of their embeddings; every other task belongs to
the nearest center. There are as many clusters, 2 to 8, as give the largest mean silhouette, and one if that is
below 0.25, which means that there is no structure (Kaufman & Rousseeuw, 1990): a hint kept from tasks that it would
have helped costs more than one too many. Nothing is drawn: the same goals in the same order give the same categories.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from distillery.environments.base import Task

Vectors = NDArray[np.float32]

_MAX_CLUSTERS = 8
_MIN_SILHOUETTE = 0.25
_MAX_GOALS = 2000
"""Distinct goals that centres are found from, the first in the order of the tasks."""
_MAX_ITERATIONS = 50
_MAX_CHARACTERS = 60


def categorised(
    pinned: Mapping[str, Sequence[Task]], embeddings: Mapping[str, str], *, learnt_from: str
) -> dict[str, list[Task]]:
    """Return the tasks, each with a category. A new category is a number and its most typical goal.

    Args:
        pinned: tasks by purpose.
        embeddings: of their goals, in pgvector's notation.
        learnt_from: the purpose whose goals decide what categories there are.
    """
    goals = list(dict.fromkeys(task.goal for task in pinned[learnt_from] if not task.category))[:_MAX_GOALS]
    if not goals:
        return {purpose: list(tasks) for purpose, tasks in pinned.items()}
    vectors = {goal: np.asarray(json.loads(embeddings[goal]), np.float32) for goal in embeddings}
    points = _unit(np.stack([vectors[goal] for goal in goals]))
    centres = cluster(points)
    names = _names(goals, points, centres)

    def category(task: Task) -> str:
        return task.category or names[int((centres @ vectors[task.goal]).argmax())]

    return {purpose: [replace(task, category=category(task)) for task in tasks] for purpose, tasks in pinned.items()}


def likest(goals: Sequence[str], tasks: Sequence[Task], embeddings: Mapping[str, str]) -> list[str]:
    """Return, for each goal, the category of the task whose goal is the most similar.

    Args:
        goals: of tasks that are not pinned.
        tasks: pinned ones, with their categories.
        embeddings: of all goals, in pgvector's notation.
    """
    known = _unit(np.stack([np.asarray(json.loads(embeddings[task.goal]), np.float32) for task in tasks]))
    return [
        tasks[int((known @ np.asarray(json.loads(embeddings[goal]), np.float32)).argmax())].category for goal in goals
    ]


def cluster(points: Vectors) -> Vectors:
    """Return the centers of the clusters, shape (clusters, dimensions), for unit vectors of shape (n, dimensions)."""
    best, best_score = _unit(points.mean(axis=0, keepdims=True)), _MIN_SILHOUETTE
    for number in range(2, min(_MAX_CLUSTERS, len(points) - 1) + 1):
        centres = _k_means(points, number)
        score = _silhouette(points, (points @ centres.T).argmax(axis=1))
        if score > best_score:
            best, best_score = centres, score
    return best


def _k_means(points: Vectors, number: int) -> Vectors:
    """Lloyd's algorithm from the point next to the mean and, one by one, the points farthest from those chosen."""
    chosen = [int((points @ points.mean(axis=0)).argmax())]
    while len(chosen) < number:
        chosen.append(int((points @ points[chosen].T).max(axis=1).argmin()))
    centres = points[chosen]
    for _ in range(_MAX_ITERATIONS):
        nearest = (points @ centres.T).argmax(axis=1)
        sums = np.stack([points[nearest == index].sum(axis=0) for index in range(number)])
        moved = np.where(np.linalg.norm(sums, axis=1, keepdims=True) > 0, _unit(sums), centres)
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres


def _silhouette(points: Vectors, nearest: NDArray[np.intp]) -> float:
    """The mean over all points, by cosine distance; 0 for a point that is a cluster of its own."""
    clusters, labels, sizes = np.unique(nearest, return_inverse=True, return_counts=True)
    if len(clusters) == 1:
        return 0.0
    sums = (1 - points @ points.T) @ np.eye(len(clusters), dtype=np.float32)[labels]
    rows = np.arange(len(points))
    own = sums[rows, labels] / np.maximum(sizes[labels] - 1, 1)
    means = sums / sizes
    means[rows, labels] = np.inf
    other = means.min(axis=1)
    scores = (other - own) / np.maximum(np.maximum(own, other), np.finfo(np.float32).eps)
    return float(np.where(sizes[labels] > 1, scores, 0).mean())


def _names(goals: Sequence[str], points: Vectors, centres: Vectors) -> list[str]:
    likeness = points @ centres.T
    nearest = likeness.argmax(axis=1)
    names = []
    for index in range(len(centres)):
        members = np.where(nearest == index, likeness[:, index], -np.inf)
        typical = textwrap.shorten(goals[int(members.argmax())], _MAX_CHARACTERS, placeholder=" ...")
        names.append(f"{index + 1}: {typical}")
    return names


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
