"""Stage sample: the tasks that a later round learns from, new ones first.

python -m distillery.stages.sample CONFIG
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Collection
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from distillery.core import plugins
from distillery.core.artifacts import digest_of
from distillery.core.planner.plays import CONFIRMING_ARMS, ON_POLICY, Strategies
from distillery.environments.base import Environment, Task
from distillery.hints.categories import nearest_categories
from distillery.sampling.base import Candidates, Sampler, TaskHistory
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.failures import StageFailure
from distillery.stages.runtime.pinning import arrived_labels, find_fresh, make_tasks, select_arrived, shuffle
from distillery.stages.runtime.prepared_run import open_environment
from distillery.stages.runtime.runner import Result, run_stage

_log = logging.getLogger(__name__)


async def main(context: StageContext) -> tuple[Result, Path]:
    """Choose the round's training tasks; generate more where the environment can and too few are new."""
    spec = context.spec
    draft = context.store.draft(context.config.stage)
    folder = draft / "environment"
    await asyncio.to_thread(shutil.copytree, context.prepared.before().folder_of("train"), folder)
    environment = open_environment(spec, folder)
    learning = list(Strategies.of(spec).learning)
    rows = await context.episodes.read_histories(arms=learning, alone=ON_POLICY, until=context.round)
    played = [TaskHistory(**row) for row in rows]
    if begun := await context.episodes.read_tasks(context.round, arms=learning):
        # an earlier release, which had no such stage, began the round
        chosen, wanted = begun, 0
    else:
        sampler: Sampler = plugins.load("samplers", spec.rounds.sampler)(spec)
        wanted = sampler.count_new(spec.environment.tasks.train, played)
        used = await context.episodes.read_task_ids(arms=[*learning, *CONFIRMING_ARMS])
        find = partial(_find_new, context, environment, used)
        if (missing := wanted - len(find())) > 0:
            split = context.prepared.manifest["environment"]["split"]
            counts = {name: len(environment.catalog(name)) for name in ("train", split)}
            counts["train"] += missing
            await asyncio.to_thread(
                make_tasks,
                environment,
                counts,
                find=lambda: len(find()),
                number=wanted,
                report=context.report_tasks(),
            )
        new = find()
        chosen = _choose(sampler, Candidates(new, played), spec.environment.tasks.train)
        chosen = await _categorize(context, chosen)
    (draft / "tasks.json").write_text(json.dumps({"train": [asdict(task) for task in chosen]}), encoding="utf-8")
    known = {one.task.id for one in played}
    facts: dict[str, Any] = {"n": len(chosen), "new": sum(task.id not in known for task in chosen)}
    if facts["new"] < wanted:
        _log.warning("%d of %d tasks are new: %s has no more", facts["new"], len(chosen), environment.source)
    facts["sha256"] = digest_of([task.id for task in chosen])
    return {"start": context.config.start, "tasks": {"train": facts}}, draft


def _find_new(context: StageContext, environment: Environment, used: Collection[str]) -> list[Task]:
    """Return the tasks that enter with the round, that no round learned from and that are not held out.

    They are in an order of the run's seed.
    """
    fresh = find_fresh(environment, "train", without=context.prepared.tasks("evaluate"), used=used)
    arrived = select_arrived(fresh, environment, arrived_labels(context.spec, context.round))
    return shuffle(arrived, context.spec.environment.tasks.seed)


def _choose(sampler: Sampler, candidates: Candidates, number: int) -> list[Task]:
    """Return the tasks that a sampler chooses. Raises :class:`StageFailure` where that is no choice."""
    chosen = sampler.choose(number, candidates)
    ids, known = [task.id for task in chosen], {task.id for task in candidates.new}
    known |= {one.task.id for one in candidates.played}
    if not ids or len(ids) > number or len(set(ids)) < len(ids) or not known.issuperset(ids):
        raise StageFailure(
            f"spec.rounds.sampler: {sampler.name} chose {len(ids)} tasks, {len(set(ids))} of them different and "
            f"{len(known.intersection(ids))} among those it was given: it has to choose 1 to {number}, each once"
        )
    return chosen


async def _categorize(context: StageContext, tasks: list[Task]) -> list[Task]:
    """Return the tasks; one without a category gets that of the most similar task of the first round."""
    if all(task.category for task in tasks):
        return tasks
    first = context.prepared.first().tasks("train")
    goals = list(dict.fromkeys(task.goal for task in tasks if not task.category))
    vectors = await context.bank.embedder.vectors([*goals, *(task.goal for task in first)])
    categories = dict(zip(goals, nearest_categories(goals, first, vectors), strict=True))
    return [task if task.category else replace(task, category=categories[task.goal]) for task in tasks]


if __name__ == "__main__":
    run_stage(main)
