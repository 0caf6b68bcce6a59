"""The next step of a run. Pure: the same specification and observation give the same plan. Reads as the specification.

The executor observes which stages ran and how they ended, asks for a plan, starts the stages that it names, and asks
again whenever something ended. Nothing else decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from distillery.core.api.run import Spec
from distillery.core.planner.graph import Kind, Lineage, Stage, StageId, prepare, round_stages
from distillery.core.planner.round_state import RoundState
from distillery.core.planner.states import Plan, PlanPhase, StagePhase, StageState, Verdict


def plan(
    spec: Spec, observed: Mapping[StageId, StageState], *, failures: int = 0, rejected: Collection[int] = ()
) -> Plan:
    """Return the next plan of a run.

    Args:
        spec: the run's specification.
        observed: the stages that were started.
        failures: failed sessions of users that no round has learned from; matters with ``rounds.trigger`` only.
        rejected: rounds whose promoted student live traffic rejected: no later round starts with it.
    """
    outgrown = find_outgrown(spec, observed)
    observed = {sid: state for sid, state in observed.items() if sid not in outgrown}
    verdicts = tuple[Verdict, ...]()
    for number, lineage in _lineages(spec, observed, rejected):
        current = RoundState(round_stages(spec, number, lineage), observed, spec)
        if _waits(current, failures):
            return Plan(PlanPhase.WAITING, number, verdicts, lineage, _waiting_message(spec, number))
        if not current.judged:
            # a round that was judged has its tasks; more of them are the next one's
            current = replace(current, stages=[prepare(), *current.stages])
        if current.failed:
            return Plan(PlanPhase.FAILED, number, verdicts, lineage, current.failure, current.running)
        if not current.done:
            start = current.ready[: max(0, spec.stages.max_parallel - len(current.running))]
            message = _running_message(current, number, start)
            return Plan(PlanPhase.RUNNING, number, verdicts, lineage, message, current.running, current.ready, start)
        verdict = _verdict(number, observed)
        verdicts = (*verdicts, verdict)
        if reason := _reason_to_stop(spec, verdicts):
            return Plan(PlanPhase.COMPLETE, number, verdicts, lineage, f"{reason} {verdict.promotion.reason}")
    raise AssertionError("rounds.maxRounds is a reason to stop")


def find_outgrown(spec: Spec, observed: Mapping[StageId, StageState]) -> set[StageId]:
    """Return the stages that succeeded with another number of held-out tasks than wanted now and have to start again.

    Rounds before the last that began keep their verdicts, and so does one that promoted its student.
    """
    last = max((sid.round for sid in observed), default=0)
    promote = observed.get(StageId(last, Kind.PROMOTE))
    promoted = promote is not None and promote.result.promotion is not None and promote.result.promotion.promoted
    return {
        sid
        for sid, state in observed.items()
        if state.phase == StagePhase.SUCCEEDED
        and (sid.kind is Kind.PREPARE or (sid.round == last and not promoted))
        and state.result.held_out_tasks not in (None, spec.environment.tasks.evaluate)
    }


def find_pending(spec: Spec, current: Plan, started: Collection[StageId]) -> tuple[StageId, ...]:
    """Return the stages of a plan's round that have not started, in order; none if the run is complete or waits."""
    if current.phase not in (PlanPhase.RUNNING, PlanPhase.FAILED):
        return ()
    stages = [prepare(), *round_stages(spec, current.round, current.lineage)]
    return tuple(stage.id for stage in stages if stage.id not in started)


def stages_so_far(spec: Spec, observed: Mapping[StageId, StageState]) -> list[Stage]:
    """Return the stages of all rounds up to the present one, whether they were started or not."""
    rounds = (round_stages(spec, number, lineage) for number, lineage in _lineages(spec, observed, ()))
    return [prepare(), *(stage for stages in rounds for stage in stages)]


def _lineages(
    spec: Spec, observed: Mapping[StageId, StageState], rejected: Collection[int]
) -> Iterator[tuple[int, Lineage]]:
    """Yield each round with the models that it starts with, up to the first one that has no verdict.

    A round that has begun continues with the model that it began with, whatever live traffic says of it meanwhile.
    """
    lineage = Lineage()
    by_start = {lineage.start.name: lineage}
    for number in range(1, spec.rounds.max_rounds + 1):
        began = observed.get(StageId(number, Kind.SAMPLE))
        if began and began.result.start in by_start:
            lineage = replace(by_start[began.result.start], own_arms=lineage.own_arms)
        yield number, lineage
        promote = observed.get(StageId(number, Kind.PROMOTE))
        if promote is None or promote.result.promotion is None:
            return
        after = lineage.after(spec, number, promote.result.promotion)
        by_start[after.start.name] = after
        lineage = replace(lineage, own_arms=after.own_arms) if number in rejected else after


def _waits(current: RoundState, failures: int) -> bool:
    """Return whether a round waits for its trigger.

    A round that has started never waits, for it consumes the failures that triggered it.
    """
    trigger = current.spec.rounds.trigger
    first = current.stages[0].id.round == 1
    return trigger is not None and not first and not current.started and failures < trigger.min_failures


def _waiting_message(spec: Spec, number: int) -> str:
    """Return the message of a run whose next round waits; the same however many failures there are yet."""
    assert spec.rounds.trigger is not None
    failures = spec.rounds.trigger.min_failures
    return f"Round {number} of {spec.rounds.max_rounds} waits for {failures} failures of users."


def _running_message(current: RoundState, number: int, start: Collection[Stage]) -> str:
    """Return the message of a running run; the same before its stages are started and after."""
    active = {*current.running, *(stage.id for stage in start)}
    names = ", ".join(str(stage.id) for stage in current.stages if stage.id in active)
    return f"Round {number} of {current.spec.rounds.max_rounds}: {names}."


def _verdict(number: int, observed: Mapping[StageId, StageState]) -> Verdict:
    """Return the verdict of a round whose last stage succeeded."""
    result = observed[StageId(number, Kind.PROMOTE)].result
    assert result.promotion is not None, "stage promote succeeds with a promotion"
    return Verdict(number, result.student, result.promotion)


def _reason_to_stop(spec: Spec, verdicts: tuple[Verdict, ...]) -> str:
    """Return why no further round is to start; empty if one is."""
    rounds, promoted, metric = spec.rounds, [v.promotion.promoted for v in verdicts], verdicts[-1].promotion.metric
    if rounds.target and any(promoted) and metric >= rounds.target.min_value:
        return f"Reached {rounds.target.metric} {metric:.3f}, the target is {rounds.target.min_value:.3f}."
    if rounds.patience and len(verdicts) >= rounds.patience and not any(promoted[-rounds.patience :]):
        return f"No promotion in {rounds.patience} round{'s' * (rounds.patience > 1)} in a row."
    if len(verdicts) == rounds.max_rounds:
        return f"Ended after {rounds.max_rounds} round{'s' * (rounds.max_rounds > 1)}."
    return ""
