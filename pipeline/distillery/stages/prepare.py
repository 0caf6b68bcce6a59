"""Stage prepare: check everything before anything is spent, generate the environment's material, pin the tasks.

python -m distillery.stages.prepare CONFIG
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distillery.core.api import CannotRun, Spec
from distillery.core.artifacts import digest_of
from distillery.core.model_files import resolve
from distillery.core.planner.plays import CONFIRMING_ARMS, Strategies
from distillery.core.planner.prepared import open_prepared
from distillery.environments.base import Environment, Report, Task
from distillery.hints.categories import assign_categories
from distillery.hints.embedder import Embedder
from distillery.preflight import endpoints
from distillery.preflight.checks import check
from distillery.preflight.endpoints import ask_endpoints
from distillery.preflight.facts import gather, held_out_split
from distillery.preflight.inspect import inspect
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.failures import StageFailure
from distillery.stages.runtime.pinning import Pinned, arrived_labels, make_tasks, pin, select_arrived
from distillery.stages.runtime.prepared_run import load_agent, open_environment, read_tasks
from distillery.stages.runtime.runner import Result, run_stage


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
    await asyncio.to_thread(_make_tasks, environment, spec, counts, context.report_tasks())
    used = await context.episodes.read_task_ids(arms=[*Strategies.of(spec).learning, *CONFIRMING_ARMS])
    result = pin(environment, spec, await _read_earlier_pinned(context), used=used)
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


def _make_tasks(environment: Environment, spec: Spec, counts: dict[str, int], report: Report) -> None:
    """Let the environment make the tasks of the first round and the held-out ones."""
    number, labels = counts["train"], arrived_labels(spec, 1)

    def find() -> int:
        return len(select_arrived(environment.catalog("train"), environment, labels))

    make_tasks(environment, counts, find=find, number=number if labels else 0, report=report)


async def _read_earlier_pinned(context: StageContext) -> Pinned | None:
    """Return the tasks that were pinned before the number of held-out tasks grew; None if it did not."""
    before = await context.read_earlier_result()
    number = context.spec.environment.tasks.evaluate
    if not 0 < before.get("heldOutTasks", number) < number:
        return None
    folder, manifest = open_prepared(context.store, before["heldOutTasks"])
    left_out = {purpose: facts["leftOut"] for purpose, facts in manifest["tasks"].items()}
    return Pinned(read_tasks(folder), left_out)


async def _categorize(pinned: dict[str, list[Task]], embedder: Embedder) -> dict[str, list[Task]]:
    """Return the tasks, with a category for those that have none."""
    goals = [task.goal for tasks in pinned.values() for task in tasks if not task.category]
    if not goals:
        return pinned
    return assign_categories(pinned, await embedder.vectors(goals), learned_from="train")


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
