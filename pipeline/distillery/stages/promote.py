"""Stage promote: the gate decides, and the report is written.

python -m distillery.stages.promote CONFIG
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distillery.core.planner.graph import Kind, StageId
from distillery.core.planner.plays import BASE_ARM, BASELINE, CANDIDATE, evaluated_students
from distillery.database.stages import StageStore
from distillery.evaluation.arms import compare, read_results
from distillery.evaluation.gate import GateResult, judge, required_confidence
from distillery.evaluation.statistics import compare_paired
from distillery.report.data import build_report
from distillery.report.page import write_report
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.held_out import find_learned_tasks
from distillery.stages.runtime.runner import Result, run_stage


async def main(context: StageContext) -> tuple[Result, Path]:
    """Compare the arms, judge the candidate, write ``report.json`` and ``report.html``."""
    spec, config = context.spec, context.config
    gate = spec.promotion.gate
    arms = await read_results(context.episodes, context.round, (BASE_ARM, *spec.evaluation.arms))
    looks = await _earlier_looks(context)
    left_out = await _find_left_out(context, looks)
    arms = {arm: outcomes.without(left_out) for arm, outcomes in arms.items()}
    students = _read_students(context)
    trained = students[CANDIDATE]
    if trained["student"] is None:
        dropped = ", ".join(f"{n} {reason}" for reason, n in trained["learnedFrom"]["dropped"].items())
        verdict = GateResult("Inconclusive", f"There was no student: no episode of the teacher was kept ({dropped}).")
    else:
        look = await _count_looks_before(context) + len(looks) + 1
        candidate, base = arms[CANDIDATE].of(gate.metric), arms[BASELINE].of(gate.metric)
        verdict = judge(gate, compare_paired(candidate, base, confidence=required_confidence(gate, look)), look=look)
    promoted = verdict.verdict == "Successful" and spec.promotion.policy == "Auto"
    if verdict.verdict == "Successful" and not promoted:
        verdict = GateResult(verdict.verdict, f"{verdict.reason} Not promoted: spec.promotion.policy is Never.")
    until = spec.rounds.target
    result = {
        "heldOutTasks": spec.environment.tasks.evaluate,
        "earlierLooks": looks,
        "leftOut": len(left_out),
        "gate": asdict(verdict),
        "promoted": promoted,
        "start": config.start,
        "student": trained["student"],
        "students": {name: manifest["student"] for name, manifest in students.items() if manifest["student"]},
        "metric": arms[CANDIDATE if promoted else BASELINE].mean(until.metric if until else gate.metric),
        "arms": {arm: outcomes.summary() for arm, outcomes in arms.items()},
        "comparisons": compare(arms, gate.metric, same_as=_same_as(students)),
    }
    report = await build_report(context.database, context.run_id, config.run, context.store, {context.round: result})
    draft = context.store.draft(config.stage)
    write_report(report, draft)
    return result, draft


async def _earlier_looks(context: StageContext) -> list[dict[str, Any]]:
    """Return the verdicts on fewer held-out tasks, oldest first."""
    before = await context.read_earlier_result()
    if before.get("heldOutTasks", 0) in (0, context.spec.environment.tasks.evaluate):
        return []
    return [*before["earlierLooks"], {"heldOutTasks": before["heldOutTasks"], "gate": before["gate"]}]


async def _count_looks_before(context: StageContext) -> int:
    """Return how often the gate judged a candidate in the rounds before this one."""
    states = await StageStore(context.database, context.run_id).read_states()
    ended = [states[StageId(number, Kind.PROMOTE)].result for number in range(1, context.round)]
    return sum(len(result.document.get("earlierLooks", ())) + (result.student is not None) for result in ended)


async def _find_left_out(context: StageContext, looks: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the added held-out tasks from which students had learned before, under another id."""
    if not looks:
        return set()
    first = context.prepared.tasks("evaluate")[: looks[0]["heldOutTasks"]]
    return await find_learned_tasks(context.episodes, context.round) - {task.id for task in first}


def _read_students(context: StageContext) -> dict[str, Mapping[str, Any]]:
    """Return the results of the round's trainings, by student."""
    return {
        student: context.store.manifest(str(StageId(context.round, Kind.TRAIN, student)))
        for student in evaluated_students(context.spec)
    }


def _same_as(students: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the students that were not trained, each with the one that learned from the same episodes."""
    return {student: result["sameAs"] for student, result in students.items() if "sameAs" in result}


if __name__ == "__main__":
    run_stage(main)
