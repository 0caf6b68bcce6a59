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
"""Distinct goals that centers are found from, the first in the order of the tasks."""
_MAX_ITERATIONS = 50
_MAX_CHARACTERS = 60


def assign_categories(
    pinned: Mapping[str, Sequence[Task]], embeddings: Mapping[str, str], *, learned_from: str
) -> dict[str, list[Task]]:
    """Return the tasks, each with a category. A new category is a number and its most typical goal.

    Args:
        pinned: tasks by purpose.
        embeddings: of their goals, in pgvector's notation.
        learned_from: the purpose whose goals decide what categories there are.
    """
    goals = list(dict.fromkeys(task.goal for task in pinned[learned_from] if not task.category))[:_MAX_GOALS]
    if not goals:
        return {purpose: list(tasks) for purpose, tasks in pinned.items()}
    vectors = {goal: np.asarray(json.loads(embeddings[goal]), np.float32) for goal in embeddings}
    points = _normalize(np.stack([vectors[goal] for goal in goals]))
    centers = cluster(points)
    names = _name_clusters(goals, points, centers)

    def category(task: Task) -> str:
        return task.category or names[int((centers @ vectors[task.goal]).argmax())]

    return {purpose: [replace(task, category=category(task)) for task in tasks] for purpose, tasks in pinned.items()}


def nearest_categories(goals: Sequence[str], tasks: Sequence[Task], embeddings: Mapping[str, str]) -> list[str]:
    """Return, for each goal, the category of the task whose goal is the most similar.

    Args:
        goals: of tasks that are not pinned.
        tasks: pinned ones, with their categories.
        embeddings: of all goals, in pgvector's notation.
    """
    points = _normalize(np.stack([np.asarray(json.loads(embeddings[task.goal]), np.float32) for task in tasks]))
    return [
        tasks[int((points @ np.asarray(json.loads(embeddings[goal]), np.float32)).argmax())].category for goal in goals
    ]


def cluster(points: Vectors) -> Vectors:
    """Return the centers of the clusters, shape (clusters, dimensions), for unit vectors of shape (n, dimensions)."""
    best, best_score = _normalize(points.mean(axis=0, keepdims=True)), _MIN_SILHOUETTE
    for number in range(2, min(_MAX_CLUSTERS, len(points) - 1) + 1):
        centers = _find_centers(points, number)
        score = _compute_silhouette(points, (points @ centers.T).argmax(axis=1))
        if score > best_score:
            best, best_score = centers, score
    return best


def _find_centers(points: Vectors, number: int) -> Vectors:
    """Return the centers of Lloyd's algorithm.

    It starts from the point next to the mean and, one by one, the points farthest from those chosen.
    """
    chosen = [int((points @ points.mean(axis=0)).argmax())]
    while len(chosen) < number:
        chosen.append(int((points @ points[chosen].T).max(axis=1).argmin()))
    centers = points[chosen]
    for _ in range(_MAX_ITERATIONS):
        nearest = (points @ centers.T).argmax(axis=1)
        sums = np.stack([points[nearest == index].sum(axis=0) for index in range(number)])
        moved = np.where(np.linalg.norm(sums, axis=1, keepdims=True) > 0, _normalize(sums), centers)
        if np.allclose(moved, centers):
            break
        centers = moved
    return centers


def _compute_silhouette(points: Vectors, nearest: NDArray[np.intp]) -> float:
    """Return the mean silhouette by cosine distance; it is 0 for a point that is a cluster of its own."""
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


def _name_clusters(goals: Sequence[str], points: Vectors, centers: Vectors) -> list[str]:
    """Return the names of clusters: a number and the most typical goal."""
    similarity = points @ centers.T
    nearest = similarity.argmax(axis=1)
    names = []
    for index in range(len(centers)):
        members = np.where(nearest == index, similarity[:, index], -np.inf)
        typical = textwrap.shorten(goals[int(members.argmax())], _MAX_CHARACTERS, placeholder=" ...")
        names.append(f"{index + 1}: {typical}")
    return names


def _normalize(vectors: Vectors) -> Vectors:
    """Return the vectors with a length of 1."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
