"""Stage judge: the gate's first look at a candidate, and fresh held-out tasks for one that passes.

python -m distillery.stages.judge CONFIG
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from distillery.core.artifacts import digest_of
from distillery.core.planner.plays import CONFIRMING_ARMS, Strategies
from distillery.environments.base import Report, Task
from distillery.evaluation.gate import GateResult, required_confidence
from distillery.evaluation.power import min_tasks
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.pinning import find_fresh, shuffle
from distillery.stages.runtime.prepared_run import open_environment
from distillery.stages.runtime.runner import Result, run_stage
from distillery.stages.runtime.verdicts import count_looks_before, read_earlier_look, read_round


async def main(context: StageContext) -> tuple[Result, Path]:
    """Judge the candidate by the tasks that all rounds share; pin tasks that no gate has seen if it passes.

    This look decides nothing but whether it is worth confirming, so it spends none of the run's error.
    """
    spec = context.spec
    results = await read_round(context, await read_earlier_look(context))
    verdict = results.judge(spec.promotion.gate, look=1)
    draft = context.store.draft(context.config.stage)
    tasks = list[Task]()
    if verdict.verdict == "Successful":
        used = await context.episodes.read_task_ids(arms=[*Strategies.of(spec).learning, *CONFIRMING_ARMS])
        tasks = await asyncio.to_thread(_pin, context, draft / "environment", used, context.report_tasks())
        look = await count_looks_before(context) + 1
        if len(tasks) < (least := min_tasks(required_confidence(spec.promotion.gate, look))):
            verdict = GateResult("Inconclusive", _explain_shortage(context, len(tasks), least, verdict.reason))
            tasks = []
    (draft / "tasks.json").write_text(json.dumps({"confirm": [asdict(task) for task in tasks]}), encoding="utf-8")
    return {
        "heldOutTasks": spec.environment.tasks.evaluate,
        "earlierLooks": results.earlier_looks,
        "gate": asdict(verdict),
        "passed": bool(tasks),
        "tasks": {"confirm": {"n": len(tasks), "sha256": digest_of([task.id for task in tasks])}},
    }, draft


def _pin(context: StageContext, folder: Path, used: Collection[str], report: Report) -> list[Task]:
    """Return fresh held-out tasks, as many as ``spec.environment.tasks.confirm`` if there are; write their material."""
    spec, prepared = context.spec, context.prepared
    shutil.copytree(prepared.folder_of("evaluate"), folder)
    environment = open_environment(spec, folder)
    split, number = prepared.manifest["environment"]["split"], spec.environment.tasks.confirm
    without = [*prepared.tasks("evaluate"), *prepared.first().tasks("train")]
    fresh = find_fresh(environment, split, without=without, used=used)
    if len(fresh) < number:
        counts = {name: len(environment.catalog(name)) for name in ("train", split)}
        # those that were used since are not in this folder: they are made again
        counts[split] += number + len(used)
        environment.prepare(counts, report=report)
        fresh = find_fresh(environment, split, without=without, used=used)
    return shuffle(fresh, spec.environment.tasks.seed)[:number]


def _explain_shortage(context: StageContext, number: int, least: int, reason: str) -> str:
    """Return the reason why a candidate that passed can't be confirmed."""
    wanted = context.spec.environment.tasks.confirm
    return (
        f"{reason} It is not confirmed: spec.environment.tasks.confirm asks for {wanted} held-out tasks that no gate "
        f"has seen, {number} are left, and the gate needs {least} at least."
    )


if __name__ == "__main__":
    run_stage(main)
