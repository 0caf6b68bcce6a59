"""Stage promote: the gate decides, and the report is written.

python -m distillery.stages.promote CONFIG
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distillery.core.planner.graph import Kind, StageId, artifact_of
from distillery.core.planner.plays import BASELINE, CONFIRM_BASELINE, CONFIRM_CANDIDATE, CONFIRMING_ARMS, Strategies
from distillery.evaluation.arms import ArmResults, compare, read_results
from distillery.evaluation.forgetting import find_forgetting, find_losses
from distillery.evaluation.gate import GateResult
from distillery.report.data import build_report
from distillery.report.page import write_report
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.held_out import find_learned_tasks
from distillery.stages.runtime.runner import Result, run_stage
from distillery.stages.runtime.verdicts import (
    count_looks_before,
    find_costs,
    find_transfer,
    judge_pair,
    read_earlier_look,
    read_round,
)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The results of the candidate and the baseline on tasks that no gate has seen.

    Attributes:
        arms: by the names that they have on the other tasks.
        left_out: how many of the tasks open like one that was learned from.
        screened: the verdict on the tasks that all rounds share.
    """

    arms: Mapping[str, ArmResults]
    left_out: int
    screened: Mapping[str, Any]

    def to_json(self, metric: str) -> dict[str, Any]:
        """Write what the report and the status show; the arms are compared by a metric."""
        return {
            "arms": {arm: result.summary() for arm, result in self.arms.items()},
            "comparisons": compare(self.arms, metric),
            "leftOut": self.left_out,
            "screened": self.screened,
        }


async def main(context: StageContext) -> tuple[Result, Path]:
    """Compare the arms, judge the candidate, write ``report.json`` and ``report.html``."""
    spec, config = context.spec, context.config
    gate, until = spec.promotion.gate, spec.rounds.target
    strategies, candidate = Strategies.of(spec), gate.candidate
    results = await read_round(context, await read_earlier_look(context))
    looks = await count_looks_before(context)
    student = results.students[candidate]["student"]
    confirmation = await _read_confirmation(context) if spec.environment.tasks.confirm else None
    if confirmation and not confirmation.arms:
        verdict = GateResult(**confirmation.screened)
    elif confirmation:
        looks += 1
        verdict = judge_pair(gate, confirmation.arms[candidate], confirmation.arms[BASELINE], look=looks)
    else:
        looks += student is not None
        verdict = results.judge(gate, look=max(1, looks))
    losses = find_losses(results.arms[candidate], results.arms[BASELINE]) if student else None
    if losses and verdict.verdict == "Successful" and gate.max_forgetting is not None:
        forgotten = find_forgetting(losses, limit=gate.max_forgetting, confidence=gate.confidence)
        if forgotten:
            verdict = GateResult("Inconclusive", f"{verdict.reason} {forgotten}")
    promoted = verdict.verdict == "Successful" and spec.promotion.policy == "Auto"
    if verdict.verdict == "Successful" and not promoted:
        verdict = GateResult(verdict.verdict, f"{verdict.reason} Not promoted: spec.promotion.policy is Never.")
    costs = await find_costs(context, results.arms)
    transfer = await find_transfer(context) if spec.rounds.arrivals and student else None
    reported = {**results.arms, **(confirmation.arms if confirmation else {})}
    same_as = {name: result["sameAs"] for name, result in results.students.items() if "sameAs" in result}
    result = {
        "heldOutTasks": spec.environment.tasks.evaluate,
        "earlierLooks": results.earlier_looks,
        "looks": looks,
        "leftOut": len(results.left_out),
        "gate": asdict(verdict),
        "promoted": promoted,
        "start": config.start,
        "candidate": candidate,
        "student": student,
        "students": {name: result["student"] for name, result in results.students.items() if result["student"]},
        "lost": list(losses.lost) if losses else [],
        "costs": {arm: cost.to_json() for arm, cost in costs.items()},
        "metric": reported[candidate if promoted else BASELINE].mean(until.metric if until else gate.metric),
        "arms": {arm: outcomes.summary() for arm, outcomes in results.arms.items()},
        "comparisons": compare(
            results.arms, gate.metric, comparisons=strategies.comparisons, same_as=same_as, costs=costs
        ),
        **({"transfer": transfer.to_json()} if transfer else {}),
        **({"confirm": confirmation.to_json(gate.metric)} if confirmation and confirmation.arms else {}),
    }
    report = await build_report(context.database, context.run_id, config.run, context.store, {context.round: result})
    draft = context.store.draft(config.stage)
    write_report(report, draft)
    return result, draft


async def _read_confirmation(context: StageContext) -> Confirmation:
    """Return the results on the round's fresh tasks; without arms if its candidate did not pass the first look."""
    judge = StageId(context.round, Kind.JUDGE)
    judged = context.store.manifest(artifact_of(judge, context.spec.environment.tasks.evaluate))
    if not judged["passed"]:
        return Confirmation({}, 0, judged["gate"])
    played = await read_results(context.episodes, context.round, CONFIRMING_ARMS)
    # other tasks of the round were played by a look that came before more held-out tasks were asked for
    fresh = {task.id for task in context.prepared.tasks("confirm")}
    learned = await find_learned_tasks(
        context.episodes, context.round, arm=CONFIRM_BASELINE, learning=Strategies.of(context.spec).learning
    )
    learned &= fresh
    arms = {
        name: ArmResults([row for row in played[arm].rows if row["task_id"] in fresh - learned])
        for name, arm in ((BASELINE, CONFIRM_BASELINE), (context.spec.promotion.gate.candidate, CONFIRM_CANDIDATE))
    }
    return Confirmation(arms, len(learned), judged["gate"])


if __name__ == "__main__":
    run_stage(main)
