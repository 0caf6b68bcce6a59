"""Stage prepare: check everything before anything is spent, generate the environment's material, pin the tasks.

python -m distillery.stages.prepare CONFIG
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distillery.core.api import CannotRun, Spec
from distillery.core.artifacts import digest_of
from distillery.core.model_files import resolve
from distillery.core.planner.prepared import open_prepared
from distillery.environments.base import Environment, Report, Task
from distillery.environments.pool import wire
from distillery.hints.categories import assign_categories
from distillery.hints.embedder import Embedder
from distillery.preflight import endpoints
from distillery.preflight.checks import check
from distillery.preflight.endpoints import ask_endpoints
from distillery.preflight.facts import gather, held_out_split
from distillery.preflight.inspect import inspect
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.failures import StageFailure, Terminated
from distillery.stages.runtime.prepared_run import load_agent, open_environment, read_tasks
from distillery.stages.runtime.runner import Result, run_stage

_log = logging.getLogger(__name__)


async def main(context: StageContext) -> tuple[Result, Path]:
    """Check plug-ins, models and secrets; generate what the environment needs; pin the tasks."""
    spec = context.spec
    problems = check(spec, gather(spec, await asyncio.to_thread(inspect, spec, trainer=True), gpu=None))
    if problems:
        raise CannotRun(problems, "the run")
    if refused := await ask_endpoints(spec, seconds=endpoints.SECONDS):
        raise CannotRun(refused, "the run")
    base = _check_model(spec)

    draft = context.store.draft(context.config.stage)
    folder = draft / "environment"
    folder.mkdir()
    environment = open_environment(spec, folder)
    tasks, split = spec.environment.tasks, held_out_split(spec, environment.held_out_split)
    counts = {"train": tasks.train}
    counts[split] = counts.get(split, 0) + tasks.evaluate
    await asyncio.to_thread(environment.prepare, counts, report=_reporter(context))
    result = pin(environment, spec, await _read_earlier_pinned(context))
    pinned = await _categorize(result.tasks, Embedder(context.database))
    _check_agent(environment, spec, pinned["train"][0])
    (draft / "tasks.json").write_text(
        json.dumps({purpose: [asdict(task) for task in chosen] for purpose, chosen in pinned.items()}), encoding="utf-8"
    )
    return {
        "heldOutTasks": tasks.evaluate,
        "environment": {
            "name": spec.environment.name,
            "source": environment.source,
            "split": split,
        },
        "tasks": {
            purpose: {
                "n": len(chosen),
                "sha256": digest_of([task.id for task in chosen]),
                "leftOut": result.left_out[purpose],
            }
            for purpose, chosen in pinned.items()
        },
        "base": base,
    }, draft


async def _read_earlier_pinned(context: StageContext) -> Pinned | None:
    """Return the tasks that were pinned before the number of held-out tasks grew; None if it did not."""
    before = await context.read_earlier_result()
    number = context.spec.environment.tasks.evaluate
    if not 0 < before.get("heldOutTasks", number) < number:
        return None
    folder, manifest = open_prepared(context.store, before["heldOutTasks"])
    left_out = {purpose: facts["leftOut"] for purpose, facts in manifest["tasks"].items()}
    return Pinned(read_tasks(folder), left_out)


def _reporter(context: StageContext) -> Report:
    """Return a function that reports progress, and ends the calling thread once the stage is asked to stop."""
    report = context.progress.from_thread("tasks")

    def report_or_stop(done: int, total: int) -> None:
        if context.stop.is_set():
            raise Terminated("stopped on request")
        report(done, total)

    return report_or_stop


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


def pin(environment: Environment, spec: Spec, before: Pinned | None = None) -> Pinned:
    """Choose the tasks to learn from and the held-out tasks. No held-out task is among the former, under any id.

    Args:
        environment: whose tasks they are.
        spec: how many, of which split.
        before: the tasks that were pinned for fewer held-out tasks; all of them stay.

    Raises:
        StageFailure: a split has too few tasks, or an object that is no task.
    """
    tasks, held_out_name = spec.environment.tasks, held_out_split(spec, environment.held_out_split)
    train = _shuffle(_list_tasks(environment, "train"), tasks.seed)
    if held_out_name == "train":
        held_out = train if before else train[tasks.train :]
    else:
        held_out = _shuffle(_list_tasks(environment, held_out_name), tasks.seed)
    for field, split, available, number in (
        ("train", "train", train, tasks.train),
        ("evaluate", held_out_name, held_out, tasks.evaluate),
    ):
        if len(available) < number:
            raise StageFailure(
                f"spec.environment.tasks.{field}: {number}: {environment.source} has {len(available)} tasks left in "
                f"the split {split}; write at most that"
            )
    if before:
        return _add(before, train, held_out, tasks.evaluate, environment)
    evaluate, repeated = _take(held_out, tasks.evaluate, environment, distinct=True)
    ids, contents = {task.id for task in evaluate}, {_content(task, environment) for task in evaluate}
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
    contents = {_content(task, environment) for task in (*kept, *learned)}
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
        content = _content(task, environment)
        if content in seen:
            skipped += 1
            continue
        taken.append(task)
        if distinct:
            seen.add(content)
    return taken, skipped


def _content(task: Task, environment: Environment) -> str:
    """Return a text that two tasks share if they are the same, as far as is known before they are played."""
    return " ".join(task.goal.split()) if environment.goal_is_task else f"id {task.id}"


def _list_tasks(environment: Environment, split: str) -> list[Task]:
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


async def _categorize(pinned: dict[str, list[Task]], embedder: Embedder) -> dict[str, list[Task]]:
    """Return the tasks, with a category for those that have none."""
    goals = [task.goal for tasks in pinned.values() for task in tasks if not task.category]
    if not goals:
        return pinned
    return assign_categories(pinned, await embedder.vectors(goals), learned_from="train")


def _shuffle(tasks: Sequence[Task], seed: int) -> list[Task]:
    """Return the tasks in an order that the seed decides."""
    return random.Random(seed).sample(list(tasks), len(tasks))  # noqa: S311 - no secret


def _check_agent(environment: Environment, spec: Spec, task: Task) -> None:
    """Check that the agent can render a prompt for the environment, with as many worked examples as it should."""
    agent = load_agent(spec, environment)
    examples = agent.examples if spec.agent.few_shot_examples is None else spec.agent.few_shot_examples
    try:
        agent.build_prefix(task, task.goal, hints=(), examples=examples)
    except ValueError as error:
        raise StageFailure(str(error)) from error


def _check_model(spec: Spec) -> dict[str, Any]:
    """Return the base model's name, revision and digest. Raises :class:`StageFailure` if it can't be trained."""
    from distillery.training.architecture import ArchitectureError, check_student
    from distillery.training.weights import compute_model_digest

    student = spec.models.student
    folder = resolve(student.model, student.revision)
    if spec.models.teacher and spec.models.teacher.model:
        resolve(spec.models.teacher.model, spec.models.teacher.revision)
    try:
        check_student(folder, spec)
    except ArchitectureError as error:
        raise StageFailure(str(error)) from error
    return {"model": student.model, "revision": student.revision, "sha256": compute_model_digest(folder)}


if __name__ == "__main__":
    run_stage(main)
