"""Stage prepare: everything that can be wrong is found before anything is spent; tasks are pinned, games generated.

python -m distillery.stages.prepare CONFIG
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distillery import plugins
from distillery.api import Spec
from distillery.artifacts import digest_of
from distillery.environments import wire
from distillery.environments.base import Environment, Report, Task
from distillery.hints.categories import categorised
from distillery.hints.embed import Embedder
from distillery.models import resolve
from distillery.stages.runner import Result, StageContext, StageFailure, Terminated, run_stage, secret


async def main(context: StageContext) -> tuple[Result, Path]:
    """Check plug-ins, models and secrets; generate what the environment needs; pin the tasks."""
    spec = context.spec
    _check_plugins(spec)
    _check_secrets(spec)
    base = _check_model(spec)

    draft = context.store.draft(context.config.stage)
    folder = draft / "environment"
    folder.mkdir()
    environment = context.environment_in(folder)
    tasks = spec.environment.tasks
    wanted = {"train": tasks.train}
    wanted[tasks.evaluate_split] = wanted.get(tasks.evaluate_split, 0) + tasks.evaluate
    await asyncio.to_thread(environment.prepare, wanted, report=_reporter(context))
    pinned = await _categorised(context, pin(environment, spec))
    (draft / "tasks.json").write_text(
        json.dumps({purpose: [asdict(task) for task in chosen] for purpose, chosen in pinned.items()}), encoding="utf-8"
    )
    return {
        "environment": {
            "name": spec.environment.name,
            "source": environment.source,
            "split": tasks.evaluate_split,
        },
        "tasks": {
            purpose: {"n": len(chosen), "sha256": digest_of([task.id for task in chosen])}
            for purpose, chosen in pinned.items()
        },
        "base": base,
    }, draft


def _reporter(context: StageContext) -> Report:
    """Reports progress, and ends the thread that calls it once the stage is told to stop."""
    report = context.reporter("tasks")

    def report_or_stop(done: int, total: int) -> None:
        if context.stop.is_set():
            raise Terminated("told to stop")
        report(done, total)

    return report_or_stop


def pin(environment: Environment, spec: Spec) -> dict[str, list[Task]]:
    """The tasks to learn from and to be judged on.

    Raises:
        StageFailure: a split has too few tasks, or holds what is none.
    """
    tasks = spec.environment.tasks
    train = _ordered(_checked(environment, "train"), tasks.seed)
    if tasks.evaluate_split == "train":
        held_out = train[tasks.train :]
    else:
        held_out = _ordered(_checked(environment, tasks.evaluate_split), tasks.seed)
    for field, split, available, number in (
        ("train", "train", train, tasks.train),
        ("evaluate", tasks.evaluate_split, held_out, tasks.evaluate),
    ):
        if len(available) < number:
            raise StageFailure(
                f"spec.environment.tasks.{field}: {number}: {environment.source} has {len(available)} tasks left in "
                f"the split {split}; write at most that"
            )
    return {"train": train[: tasks.train], "evaluate": held_out[: tasks.evaluate]}


def _checked(environment: Environment, split: str) -> list[Task]:
    """The tasks of a split, which the environment may have got wrong."""
    tasks, seen = list(environment.catalogue(split)), set[str]()
    for task in tasks:
        try:
            wire.check_task(task)
        except ValueError as error:
            raise StageFailure(f"the split {split} of {environment.source}: {error}") from error
        if task.id in seen:
            raise StageFailure(f"the split {split} of {environment.source} has two tasks with the id {task.id!r}")
        seen.add(task.id)
    return tasks


async def _categorised(context: StageContext, pinned: dict[str, list[Task]]) -> dict[str, list[Task]]:
    """The tasks, those without a category given one."""
    goals = [task.goal for tasks in pinned.values() for task in tasks if not task.category]
    if not goals:
        return pinned
    return categorised(pinned, await Embedder(context.database).vectors(goals), learnt_from="train")


def _ordered(tasks: Sequence[Task], seed: int) -> list[Task]:
    return random.Random(seed).sample(list(tasks), len(tasks))  # noqa: S311 - no secret


def _check_plugins(spec: Spec) -> None:
    plugins.load("agents", spec.agent.name)
    plugins.load("retrievers", spec.hints.retriever)
    plugins.load("extractors", spec.hints.extractor or ("llm" if spec.models.extractor else "miner"))
    plugins.load("trainers", spec.training.trainer)


def _check_secrets(spec: Spec) -> None:
    models = spec.models
    endpoints = [
        models.student.endpoint,
        models.teacher.endpoint if models.teacher else None,
        models.extractor.endpoint if models.extractor else None,
    ]
    for endpoint in endpoints:
        if endpoint and endpoint.api_key_secret_ref:
            secret((endpoint.api_key_secret_ref.name, endpoint.api_key_secret_ref.key))
    if token := spec.environment.token_secret_ref:
        secret((token.name, token.key))


def _check_model(spec: Spec) -> dict[str, Any]:
    """The base model's name, revision and digest, once it is known to be one that can be trained."""
    from distillery.training.architecture import ArchitectureError, check_student
    from distillery.training.weights import digest_of_model

    student = spec.models.student
    folder = resolve(student.model, student.revision)
    if spec.models.teacher and spec.models.teacher.model:
        resolve(spec.models.teacher.model, spec.models.teacher.revision)
    try:
        check_student(folder, spec)
    except ArchitectureError as error:
        raise StageFailure(str(error)) from error
    return {"model": student.model, "revision": student.revision, "sha256": digest_of_model(folder)}


if __name__ == "__main__":
    run_stage(main)
