"""The parts of a round's verdict: the results of its arms, its students, and how often the gate looked before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distillery.core.api.spec.promotion import Gate
from distillery.core.planner.graph import Kind, StageId
from distillery.core.planner.plan import stages_so_far
from distillery.core.planner.plays import BASE_ARM, BASELINE, Strategies
from distillery.database import stages
from distillery.database.extractions import ExtractionStore
from distillery.evaluation.arms import ArmResults, read_results
from distillery.evaluation.costs import Cost, Costs, Ledger
from distillery.evaluation.gate import GateResult, judge, required_confidence
from distillery.evaluation.statistics import compare_paired
from distillery.evaluation.transfer import Transfer, measure_transfer
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.held_out import find_learned_tasks
from distillery.stages.runtime.pinning import select_arrived


@dataclass(frozen=True, slots=True)
class RoundResults:
    """The results of a round.

    Attributes:
        arms: the arms that were played, without the tasks that were left out.
        students: the results of the round's trainings, by student.
        candidate: the name of the student that is judged.
        earlier_looks: the verdicts of the round on fewer held-out tasks, oldest first.
        left_out: the added held-out tasks from which students had learned before, under another id.
    """

    arms: Mapping[str, ArmResults]
    students: Mapping[str, Mapping[str, Any]]
    candidate: str
    earlier_looks: Sequence[Mapping[str, Any]]
    left_out: frozenset[str]

    def judge(self, gate: Gate, *, look: int) -> GateResult:
        """Return the verdict on the candidate by the held-out tasks that all rounds share."""
        trained = self.students[self.candidate]
        if trained["student"] is None:
            dropped = ", ".join(f"{n} {reason}" for reason, n in trained["learnedFrom"]["dropped"].items())
            return GateResult("Inconclusive", f"There was no student: no episode to learn from was kept ({dropped}).")
        return judge_pair(gate, self.arms[self.candidate], self.arms[BASELINE], look=look)


async def read_round(context: StageContext, earlier: Mapping[str, Any]) -> RoundResults:
    """Read the results of the context's round.

    Args:
        context: of the stage.
        earlier: the stage's last result on fewer held-out tasks; empty if there is none.
    """
    spec = context.spec
    strategies = Strategies.of(spec)
    arms = await read_results(context.episodes, context.round, (BASE_ARM, *spec.evaluation.arms))
    looks = _list_looks(earlier)
    left_out = frozenset[str]()
    if looks:
        first = context.prepared.tasks("evaluate")[: looks[0]["heldOutTasks"]]
        learned = await find_learned_tasks(context.episodes, context.round, arm=BASELINE, learning=strategies.learning)
        left_out = frozenset(learned - {task.id for task in first})
    students = {
        student: context.store.manifest(str(StageId(context.round, Kind.TRAIN, student)))
        for student in strategies.evaluated_students
    }
    kept = {arm: result.without(left_out) for arm, result in arms.items()}
    return RoundResults(kept, students, spec.promotion.gate.candidate, looks, left_out)


def judge_pair(gate: Gate, candidate: ArmResults, baseline: ArmResults, *, look: int) -> GateResult:
    """Return the verdict on a candidate by its results and the baseline's, at a look of the run."""
    a, b = candidate.of(gate.metric), baseline.of(gate.metric)
    return judge(gate, compare_paired(a, b, confidence=required_confidence(gate, look)), look=look)


async def read_earlier_look(context: StageContext) -> Mapping[str, Any]:
    """Return the stage's last result if it was on fewer held-out tasks; else nothing."""
    earlier = await context.read_earlier_result()
    return {} if earlier.get("heldOutTasks") == context.spec.environment.tasks.evaluate else earlier


async def count_looks_before(context: StageContext) -> int:
    """Return how many looks of the run the gate spent error on, before the verdict of the context's round."""
    results = stages.read_results(await stages.StageStore(context.database, context.run_id).read())
    looks = 0
    for number in range(context.round, 0, -1):
        ended = results.get(str(StageId(number, Kind.PROMOTE)), {})
        if number == context.round and ended.get("heldOutTasks") == context.spec.environment.tasks.evaluate:
            continue
        if "looks" in ended:
            return looks + int(ended["looks"])
        # an earlier release did not count over rounds
        looks += len(ended.get("earlierLooks", ())) + (ended.get("student") is not None)
    return looks


async def find_costs(context: StageContext, arms: Iterable[str]) -> dict[str, Cost]:
    """Return what the arms of the context's round cost, in all rounds so far."""
    store = stages.StageStore(context.database, context.run_id)
    rows = await store.read()
    trained = {
        StageId.parse(name): int(result["metrics"]["tokens"])
        for name, result in stages.read_results(rows).items()
        if result.get("metrics")
    }
    ledger = Ledger(
        {(row["round"], row["arm"]): _cost_of(row) for row in await context.episodes.count_tokens()},
        {
            round: _cost_of(row)
            for round, row in (await ExtractionStore(context.database).count_tokens(context.run_id)).items()
        },
        trained,
    )
    costs = Costs(context.spec, stages_so_far(context.spec, stages.states_of(rows)), ledger)
    return {arm: costs.of(arm, context.round) for arm in arms}


async def find_transfer(context: StageContext) -> Transfer | None:
    """Return what the rounds so far did to the groups of tasks; None if a round before trained no candidate."""
    candidate, rounds = context.spec.promotion.gate.candidate, range(1, context.round + 1)
    played = [await read_results(context.episodes, number, (BASELINE, candidate)) for number in rounds]
    if any(candidate not in of_round for of_round in played):
        return None
    base = played[0][BASELINE].mean_by_task("success")
    students = [of_round[candidate].mean_by_task("success") for of_round in played]
    shared = set(base).intersection(*students)
    group_of: dict[str, str] = {}
    for group in context.spec.rounds.arrivals:
        of_group = select_arrived(context.prepared.tasks("evaluate"), context.prepared.environment, frozenset(group))
        group_of |= {task.id: ", ".join(group) for task in of_group if task.id in shared}
    return measure_transfer(base, students, group_of) if group_of else None


def _cost_of(row: Mapping[str, Any]) -> Cost:
    """Return the cost of play or of extraction; tokens that a server does not report as cached count in full."""
    return Cost(row.get("episodes", 0), row["calls"], row["prompt"], row["cached"] or 0, row["completion"])


def _list_looks(earlier: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the looks of the round up to an earlier result, oldest first."""
    if not earlier:
        return []
    return [*earlier["earlierLooks"], {"heldOutTasks": earlier["heldOutTasks"], "gate": earlier["gate"]}]
