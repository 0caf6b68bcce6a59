"""The choice of tasks from an environment's catalog: distinct, and none of them both learned from and judged on."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from distillery.core.api import Spec
from distillery.environments.base import Environment, Report, Task
from distillery.environments.pool import wire
from distillery.preflight.facts import held_out_split
from distillery.stages.runtime.failures import StageFailure

_log = logging.getLogger(__name__)

_MAX_TASKS = 100_000
"""As in the resource."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """The tasks of a run.

    Attributes:
        tasks: ``train``, to learn from, and ``evaluate``, to be judged on.
        left_out: how many were left out of each because they repeat a task of the list, or of the held-out one, under
            another id.
    """

    tasks: dict[str, list[Task]]
    left_out: dict[str, int]


def pin(environment: Environment, spec: Spec, before: Pinned | None = None, *, used: Collection[str] = ()) -> Pinned:
    """Choose the tasks to learn from and the held-out tasks. No held-out task is among the former, under any id.

    Args:
        environment: whose tasks they are.
        spec: how many, of which split.
        before: the tasks that were pinned for fewer held-out tasks; all of them stay.
        used: the ids of tasks that were learned from or confirmed a candidate: none is added to the held-out ones.

    Raises:
        StageFailure: a split has too few tasks, or an object that is no task.
    """
    tasks, held_out_name = spec.environment.tasks, held_out_split(spec, environment.held_out_split)
    every = shuffle(list_tasks(environment, "train"), tasks.seed)
    train = select_arrived(every, environment, arrived_labels(spec, 1))
    if held_out_name == "train":
        learned_ids = {task.id for task in train[: tasks.train]}
        held_out = every if before else [task for task in every if task.id not in learned_ids]
    else:
        held_out = shuffle(list_tasks(environment, held_out_name), tasks.seed)
    labels = ", ".join(sorted(arrived_labels(spec, 1)))
    of_labels = f" with a label of spec.rounds.arrivals[0] ({labels})" if labels else ""
    for field, split, available, number in (
        ("train", "train", train, tasks.train),
        ("evaluate", held_out_name, held_out, tasks.evaluate),
    ):
        if len(available) < number:
            raise StageFailure(
                f"spec.environment.tasks.{field}: {number}: {environment.source} has {len(available)} tasks left in "
                f"the split {split}{of_labels if field == 'train' else ''}; write at most that"
            )
    if before:
        held_out = [task for task in held_out if task.id not in used]
        return _add(before, every, held_out, tasks.evaluate, environment)
    evaluate, repeated = _take(held_out, tasks.evaluate, environment, distinct=True)
    ids, contents = {task.id for task in evaluate}, {read_content(task, environment) for task in evaluate}
    others = [task for task in train if not (held_out_name == "train" and task.id in ids)]
    learned, same = _take(others, tasks.train, environment, without=contents)
    for field, number, taken, condition in (
        ("evaluate", tasks.evaluate, evaluate, "different"),
        ("train", tasks.train, learned, "no held-out tasks under other ids"),
    ):
        if 2 * len(taken) < number:
            raise StageFailure(
                f"spec.environment.tasks.{field}: {number}: of the tasks of {environment.source} only {len(taken)} are "
                f"{condition}; write at most that, or give the environment more tasks"
            )
        if len(taken) < number:
            _log.warning("spec.environment.tasks.%s: %d: only %d are %s", field, number, len(taken), condition)
    return Pinned({"train": learned, "evaluate": evaluate}, {"train": same, "evaluate": repeated})


def _add(
    before: Pinned, train: Sequence[Task], held_out: Sequence[Task], number: int, environment: Environment
) -> Pinned:
    """Return the tasks pinned before, and further held-out ones."""
    existing = {task.id: task for task in (*train, *held_out)}
    ids = {task.id for tasks in before.tasks.values() for task in tasks}
    if lost := sorted(ids - existing.keys()):
        raise StageFailure(f"{environment.source} no longer has {len(lost)} tasks of this run, such as {lost[0]!r}")
    # as the environment has them: a category that was derived for them is derived again
    kept, learned = ([existing[task.id] for task in before.tasks[purpose]] for purpose in ("evaluate", "train"))
    contents = {read_content(task, environment) for task in (*kept, *learned)}
    others = [task for task in held_out if task.id not in ids]
    added, repeated = _take(others, number - len(kept), environment, without=contents, distinct=True)
    if not added:
        raise StageFailure(
            f"spec.environment.tasks.evaluate: {number}: {environment.source} has no held-out tasks beyond the "
            f"{len(kept)} that are pinned; write {len(kept)}"
        )
    if len(kept) + len(added) < number:
        _log.warning("spec.environment.tasks.evaluate: %d: only %d are different", number, len(kept) + len(added))
    left_out = {**before.left_out, "evaluate": before.left_out["evaluate"] + repeated}
    return Pinned({"train": learned, "evaluate": [*kept, *added]}, left_out)


def _take(
    tasks: Sequence[Task],
    number: int,
    environment: Environment,
    *,
    without: Collection[str] = (),
    distinct: bool = False,
) -> tuple[list[Task], int]:
    """Return the first so many tasks that are none of those ``without``, and how many were skipped."""
    taken, skipped, seen = list[Task](), 0, set(without)
    for task in tasks:
        if len(taken) == number:
            break
        content = read_content(task, environment)
        if content in seen:
            skipped += 1
            continue
        taken.append(task)
        if distinct:
            seen.add(content)
    return taken, skipped


def arrived_labels(spec: Spec, round: int) -> frozenset[str]:
    """Return the labels that the new training tasks of a round have one of; none if any task may be one."""
    arrivals = spec.rounds.arrivals
    if round <= len(arrivals):
        return frozenset(arrivals[round - 1])
    return frozenset(label for group in arrivals for label in group)


def select_arrived(tasks: Sequence[Task], environment: Environment, labels: frozenset[str]) -> list[Task]:
    """Return the tasks that have one of the labels; all if there are no labels."""
    if not labels:
        return list(tasks)
    return [task for task in tasks if task.category in labels or not labels.isdisjoint(environment.labels(task))]


def make_tasks(
    environment: Environment, counts: dict[str, int], *, find: Callable[[], int], number: int, report: Report
) -> None:
    """Ask an environment for training tasks until there are enough of the wanted kind, or it has no more.

    Args:
        environment: that may make tasks.
        counts: how many to begin with, by split.
        find: counts the training tasks of the wanted kind.
        number: how many of them are enough.
        report: of progress.
    """
    while True:
        environment.prepare(counts, report=report)
        there, found = len(environment.catalog("train")), find()
        if found >= number or there < counts["train"] or there >= _MAX_TASKS:
            return
        # as many more as bring the rest, if further tasks are of the kind as often
        counts["train"] = min(_MAX_TASKS, there + math.ceil((number - found) * there / max(1, found)))


def find_fresh(environment: Environment, split: str, *, without: Sequence[Task], used: Collection[str]) -> list[Task]:
    """Return the distinct tasks of a split that are none of those ``without`` and have none of the used ids."""
    ids = {task.id for task in without} | set(used)
    contents = {read_content(task, environment) for task in without}
    fresh = list[Task]()
    for task in list_tasks(environment, split):
        if task.id not in ids and (content := read_content(task, environment)) not in contents:
            contents.add(content)
            fresh.append(task)
    return fresh


def read_content(task: Task, environment: Environment) -> str:
    """Return a text that two tasks share if they are the same, as far as is known before they are played."""
    return " ".join(task.goal.split()) if environment.goal_is_task else f"id {task.id}"


def list_tasks(environment: Environment, split: str) -> list[Task]:
    """Return the tasks of a split. Raises :class:`StageFailure` where the environment has got them wrong."""
    tasks, seen = list(environment.catalog(split)), set[str]()
    for task in tasks:
        try:
            wire.check_task(task)
        except ValueError as error:
            raise StageFailure(f"the split {split} of {environment.source}: {error}") from error
        if task.id in seen:
            raise StageFailure(f"the split {split} of {environment.source} has two tasks with the id {task.id!r}")
        seen.add(task.id)
    return tasks


def shuffle(tasks: Sequence[Task], seed: int) -> list[Task]:
    """Return the tasks in an order that the seed decides."""
    return random.Random(seed).sample(list(tasks), len(tasks))  # noqa: S311 - no secret
