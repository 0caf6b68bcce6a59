"""The next step of a run. Pure: the same specification and observation give the same plan. Reads as the specification.

The executor observes which stages ran and how they ended, asks for a plan, starts the stages that it names, and asks
again whenever something ended. Nothing else decides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from distillery.core.api.run import Spec
from distillery.core.planner.graph import BASE, Kind, Model, Stage, StageId, candidate_of, prepare, round_stages


@dataclass(frozen=True, slots=True)
class StageState:
    """The observed state of a stage.

    Attributes:
        phase: ``running``, ``succeeded`` or ``failed``.
        attempts: how often it was started.
        permanent: for a failed one: starting it again is pointless.
        message: for a failed one: why, in a sentence.
        result: for a succeeded one: its manifest.
    """

    phase: str
    attempts: int = 1
    permanent: bool = False
    message: str = ""
    result: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a round.

    Attributes:
        outcome: ``Successful``, ``Failed`` or ``Inconclusive``.
        reason: one sentence.
        promoted: the student replaced the model that the round started with.
        metric: the mean that ``rounds.target`` looks at, of the model that the round ended with.
    """

    round: int
    outcome: str
    reason: str
    promoted: bool
    metric: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The next step of the executor.

    Attributes:
        phase: ``Running``, ``Waiting`` (a round for failures of users), ``Complete`` or ``Failed``.
        round: the round in progress, or the last one.
        start: the stages that can start now, in order.
        running: the stages that are running.
        verdicts: of the rounds that ended.
        serving: the model that is to be served: the one promoted last, or the base model.
        message: one sentence for a person.
    """

    phase: str
    round: int
    start: tuple[Stage, ...]
    running: tuple[StageId, ...]
    verdicts: tuple[Verdict, ...]
    serving: Model
    message: str


def plan(spec: Spec, observed: Mapping[StageId, StageState], *, failures: int = 0) -> Plan:
    """Return the next plan of a run.

    Args:
        spec: the run's specification.
        observed: the stages that were started.
        failures: failed sessions of users that no round has learned from; matters with ``rounds.trigger`` only.
    """
    outgrown = find_outgrown(spec, observed)
    observed = {sid: state for sid, state in observed.items() if sid not in outgrown}
    serving, verdicts = BASE, ()
    for number in range(1, spec.rounds.max_rounds + 1):
        stages = round_stages(spec, number, serving)
        if _waits(spec, stages, observed, failures):
            assert spec.rounds.trigger is not None
            failed = spec.rounds.trigger.min_failures
            message = f"Round {number} of {spec.rounds.max_rounds} waits for {failed} failures of users."
            return Plan("Waiting", number, (), (), verdicts, serving, message)
        ended = _has_succeeded(observed, StageId(number, Kind.PROMOTE))
        # a round that ended has its tasks; more of them are the next one's
        needed = stages if ended else [prepare(), *stages]
        pending = _plan_stages(spec, observed, needed, number, serving, verdicts)
        if pending:
            return pending
        verdict = _verdict(number, observed)
        verdicts = (*verdicts, verdict)
        if verdict.promoted:
            serving = candidate_of(number)
        reason = _reason_to_stop(spec, verdicts)
        if reason:
            return Plan("Complete", number, (), (), verdicts, serving, f"{reason} {verdict.reason}")
    raise AssertionError("rounds.maxRounds is a reason to stop")


def find_outgrown(spec: Spec, observed: Mapping[StageId, StageState]) -> set[StageId]:
    """Return the stages that succeeded with another number of held-out tasks than wanted now and have to start again.

    Rounds before the last that began keep their verdicts, and so does one that promoted its student.
    """
    last = max((sid.round for sid in observed), default=0)
    promote = observed.get(StageId(last, Kind.PROMOTE))
    promoted = promote is not None and promote.result is not None and promote.result["promoted"]
    return {
        sid
        for sid, state in observed.items()
        if state.phase == "succeeded"
        and (sid.kind is Kind.PREPARE or (sid.round == last and not promoted))
        and (state.result or {}).get("heldOutTasks", spec.environment.tasks.evaluate) != spec.environment.tasks.evaluate
    }


def find_pending(spec: Spec, current: Plan, started: Collection[StageId]) -> tuple[StageId, ...]:
    """Return the stages of a plan's round that have not started, in order; none if the run is complete or waits."""
    if current.phase not in ("Running", "Failed"):
        return ()
    stages = [prepare(), *round_stages(spec, current.round, current.serving)]
    return tuple(stage.id for stage in stages if stage.id not in started)


def _has_succeeded(observed: Mapping[StageId, StageState], sid: StageId) -> bool:
    state = observed.get(sid)
    return state is not None and state.phase == "succeeded"


def _waits(spec: Spec, stages: list[Stage], observed: Mapping[StageId, StageState], failures: int) -> bool:
    """Whether a round waits for its trigger. One that was begun goes on: it uses up what it was begun for."""
    trigger = spec.rounds.trigger
    begun = any(stage.id in observed for stage in stages)
    return trigger is not None and stages[0].id.round > 1 and not begun and failures < trigger.min_failures


def _plan_stages(
    spec: Spec,
    observed: Mapping[StageId, StageState],
    stages: list[Stage],
    number: int,
    serving: Model,
    verdicts: tuple[Verdict, ...],
) -> Plan | None:
    """A plan as long as one of the stages has not succeeded, else None."""
    states = {stage.id: observed.get(stage.id) for stage in stages}
    running = tuple(sid for sid, state in states.items() if state and state.phase == "running")
    failed = [
        (stage, state)
        for stage in stages
        if (state := states[stage.id]) and state.phase == "failed" and not _may_retry(spec, stage, state)
    ]
    if failed:
        stage, state = failed[0]
        message = f"Stage {stage.id} failed after {state.attempts} attempt{'s' * (state.attempts > 1)}: {state.message}"
        return Plan("Failed", number, (), running, verdicts, serving, message)
    if all(state and state.phase == "succeeded" for state in states.values()):
        return None

    start = tuple(
        _as_observed(stage, observed)
        for stage in stages
        if ((state := states[stage.id]) is None or state.phase == "failed")
        and all(_has_succeeded(observed, need) for need in stage.needs)
    )
    room = max(0, spec.stages.max_parallel - len(running))
    under_way = {*running, *(stage.id for stage in start[:room])}  # the same before they are started and after
    names = ", ".join(str(stage.id) for stage in stages if stage.id in under_way)
    message = f"Round {number} of {spec.rounds.max_rounds}: {names}."
    return Plan("Running", number, start, running, verdicts, serving, message)


def _as_observed(stage: Stage, observed: Mapping[StageId, StageState]) -> Stage:
    """The stage; without a player where that is a student that had nothing to learn from: nothing is played then."""
    trained_by = stage.player.trained_by if stage.player else None
    if trained_by is None:
        return stage
    result = observed[trained_by].result
    assert result is not None, "a stage succeeds with a result"
    return stage if result["student"] else replace(stage, player=None)


def _may_retry(spec: Spec, stage: Stage, state: StageState) -> bool:
    settings = getattr(spec.stages, stage.id.kind.value)
    return not state.permanent and state.attempts <= settings.max_retries


def _verdict(number: int, observed: Mapping[StageId, StageState]) -> Verdict:
    result = observed[StageId(number, Kind.PROMOTE)].result
    assert result is not None, "a stage succeeds with a result"
    gate = result["gate"]
    return Verdict(number, gate["verdict"], gate["reason"], result["promoted"], result["metric"])


def _reason_to_stop(spec: Spec, verdicts: tuple[Verdict, ...]) -> str:
    """Why no further round is to start; empty if one is."""
    rounds, last = spec.rounds, verdicts[-1]
    if rounds.target and any(v.promoted for v in verdicts) and last.metric >= rounds.target.min_value:
        return f"Reached {rounds.target.metric} {last.metric:.3f}, the target is {rounds.target.min_value:.3f}."
    if (
        rounds.patience
        and len(verdicts) >= rounds.patience
        and not any(v.promoted for v in verdicts[-rounds.patience :])
    ):
        return f"No promotion in {rounds.patience} round{'s' * (rounds.patience > 1)} in a row."
    if len(verdicts) == rounds.max_rounds:
        return f"Ended after {rounds.max_rounds} round{'s' * (rounds.max_rounds > 1)}."
    return ""
