"""Stage promote: the gate decides, and the report is written.

python -m distillery.stages.promote CONFIG
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from distillery.evaluation.gate import GateVerdict, judge
from distillery.evaluation.outcomes import compare, outcomes_of
from distillery.evaluation.statistics import paired
from distillery.planning.stages import CANDIDATE, Kind, StageId, student_of
from distillery.report.data import build_report
from distillery.report.page import write
from distillery.stages.runner import Result, StageContext, run_stage


async def main(context: StageContext) -> tuple[Result, Path]:
    """Compare the arms, judge the candidate, write ``report.json`` and ``report.html``."""
    spec, config = context.spec, context.config
    gate = spec.evaluation.gate
    arms = await outcomes_of(context.database, context.run_id, context.round, spec.evaluation.arms)
    trained = context.result_of(str(StageId(context.round, Kind.TRAIN, CANDIDATE)))
    if trained["student"] is None:
        dropped = ", ".join(f"{n} {reason}" for reason, n in trained["learntFrom"]["dropped"].items())
        verdict = GateVerdict("Inconclusive", f"There was no student: no episode of the teacher was kept ({dropped}).")
    else:
        verdict = judge(
            gate,
            paired(arms[CANDIDATE].of(gate.metric), arms["base"].of(gate.metric), confidence=gate.confidence),
        )
    promoted = verdict.verdict == "Successful" and spec.promotion.policy == "Auto"
    if verdict.verdict == "Successful" and not promoted:
        verdict = GateVerdict(verdict.verdict, f"{verdict.reason} Not promoted: spec.promotion.policy is Never.")
    until = spec.rounds.until
    result = {
        "gate": asdict(verdict),
        "promoted": promoted,
        "student": trained["student"],
        "metric": arms[CANDIDATE if promoted else "base"].mean(until.metric if until else gate.metric),
        "arms": {arm: outcomes.summary() for arm, outcomes in arms.items()},
        "comparisons": compare(arms, gate.metric, same_as=_same_as(context)),
    }
    report = await build_report(context.database, context.run_id, config.run, context.store, {context.round: result})
    draft = context.store.draft(config.stage)
    write(report, draft)
    return result, draft


def _same_as(context: StageContext) -> dict[str, str]:
    """The students that were not trained, each with the one that learned from the same episodes."""
    students = dict.fromkeys(student for arm in context.spec.evaluation.arms if (student := student_of(arm)))
    results = {student: context.result_of(str(StageId(context.round, Kind.TRAIN, student))) for student in students}
    return {student: result["sameAs"] for student, result in results.items() if "sameAs" in result}


if __name__ == "__main__":
    run_stage(main)
