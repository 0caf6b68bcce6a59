"""The plan of a canary on live traffic, step by step, until it is promoted or rolled back. Pure.

The state is in the run's status, in ``serving.canary``; the evidence is what pods report now. So a pod that starts
again only has to collect its evidence again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from distillery.core.api.spec.canary import Canary, CanaryStep
from distillery.core.contracts.traffic import Counts
from distillery_operator.decide.canary.route import (
    find_canary_servers,
    route_canary,
    routing_generation,
    waits_for_servers,
)
from distillery_operator.decide.canary.rules import MAX_SILENCE_SECONDS, Evidence, evaluate
from distillery_operator.decide.canary.state import CanaryStatus, Phase
from distillery_operator.decide.canary.target import ServingTarget, find_stable
from distillery_operator.manifests import canary_servers
from distillery_operator.manifests.gateway import CanaryRoute
from distillery_operator.model.names import STUDENT_LABEL, RunRef, digest
from distillery_operator.model.objects import ObjectRef, rfc3339
from distillery_operator.model.observed import Observed, serving_pods
from distillery_operator.model.reasons import CanaryProgressing as Reason

POLL_INTERVAL_SECONDS = 5.0
"""The time between two polls of the pods during a canary."""


@dataclass(frozen=True, slots=True)
class CanaryContext:
    """The inputs of a canary's plan.

    Attributes:
        owner: the run.
        target: the student to serve in the end.
        status: the run's.
        observed: the run's objects, and what its pods report.
        now: the time, with its zone.
        abort_requested: the user requests the end of the canary.
    """

    owner: RunRef
    target: ServingTarget
    status: Mapping[str, Any]
    observed: Observed
    now: datetime
    abort_requested: bool = False


@dataclass(frozen=True, slots=True)
class ConditionUpdate:
    """A change of the condition ``CanaryProgressing``."""

    holds: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class CanaryPlan:
    """The plan of a canary: the stable student, and the canary next to it.

    Attributes:
        stable: the student that answers all that the canary does not.
        status: the canary's status; None if there is nothing to remember.
        canary: the student in the canary; None if no canary is active.
        route: the canary's route for the pods; None before its servers are there.
        condition: the change of the condition, if it changed.
        rolled_back: why a canary was rolled back just now; else empty.
    """

    stable: ServingTarget
    status: CanaryStatus | None = None
    canary: ServingTarget | None = None
    route: CanaryRoute | None = None
    condition: ConditionUpdate | None = None
    rolled_back: str = ""


def plan_canary(context: CanaryContext) -> CanaryPlan:
    """Return the plan of a run whose student to serve is selected."""
    serving, target = context.owner.run.spec.serving, context.target
    canary, stable = CanaryStatus.read(context.status), find_stable(context.status)
    if stable is None or stable.is_same_student(target) or serving.pinned_round is not None:
        return finish(target, canary)
    if canary and canary.is_of(target) and canary.rejected:
        return CanaryPlan(stable, canary)
    if serving.canary is None or not target.round:
        return finish(target, canary)
    if not serving.replicas:
        return defer(target, stable, canary)
    return advance(context, serving.canary, stable, canary)


def finish(target: ServingTarget, canary: CanaryStatus | None) -> CanaryPlan:
    """Serve the target to all. An active canary ends, and a rejected one is forgotten once its student is served."""
    if canary is None:
        return CanaryPlan(target)
    if not canary.active:
        forget = canary.is_of(target) and canary.rejected
        return CanaryPlan(target, None if forget else canary)
    reason = Reason.PROMOTED if canary.is_of(target) else Reason.ROLLED_BACK
    message = f"The canary of student {canary.student} ended in step {canary.step} of {canary.steps}: {target.reason}"
    return CanaryPlan(target, condition=ConditionUpdate(False, reason, message))


def defer(target: ServingTarget, stable: ServingTarget, canary: CanaryStatus | None) -> CanaryPlan:
    """Wait for servers. An active canary starts again with its first step once there are some."""
    why = "spec.serving has 0 replicas, or a round is running and duringRounds is Pause."
    message = f"{_name(target)} is tried once there are servers: {why}"
    condition = ConditionUpdate(False, Reason.WAITING_FOR_SERVERS, message)
    return CanaryPlan(stable, None if canary and canary.active else canary, condition=condition)


def advance(context: CanaryContext, spec: Canary, stable: ServingTarget, before: CanaryStatus | None) -> CanaryPlan:
    """Evaluate the current step, and go to the next step, promote the canary or roll it back."""
    target = context.target
    canary = _current_step(context, spec, before)
    evidence = _collect_evidence(context, stable, canary, before)
    canary = evaluate(canary, evidence, spec, context.now)
    if canary.phase == Phase.SUCCESSFUL and canary.step == canary.steps:
        return promote(target, canary)
    if canary.phase == Phase.SUCCESSFUL:
        started = start_step(target, spec, canary.step + 1, context.now)
        canary = replace(started, canary=evidence.canary, stable=evidence.stable)
    if not canary.active:
        return roll_back(target, stable, canary)
    message = superseded(before, target)
    condition = ConditionUpdate(True, Reason.SUPERSEDED, message) if message else _describe(target, spec, canary)
    route = route_canary(context.owner, target, canary, context.observed)
    return CanaryPlan(stable, canary, target, route, condition, rolled_back=message)


def promote(target: ServingTarget, canary: CanaryStatus) -> CanaryPlan:
    """Serve the canary to all after its last step."""
    reason = f"{target.reason} Successful in every step on live traffic ({canary.steps}). {canary.message}"
    condition = ConditionUpdate(False, Reason.PROMOTED, f"{_name(target)} is served to all. {canary.message}")
    return CanaryPlan(replace(target, reason=reason), canary, condition=condition)


def roll_back(target: ServingTarget, stable: ServingTarget, canary: CanaryStatus) -> CanaryPlan:
    """Send all traffic to the stable student."""
    message = f"{_name(target)} was rolled back in step {canary.step} of {canary.steps}. {canary.message}"
    reason = Reason.ABORTED if canary.phase == Phase.ABORTED else Reason.ROLLED_BACK
    return CanaryPlan(stable, canary, condition=ConditionUpdate(False, reason, message), rolled_back=message)


def start_step(target: ServingTarget, spec: Canary, number: int, now: datetime) -> CanaryStatus:
    """Return the status of a canary at the start of a step; the first step is 1."""
    step = spec.steps[number - 1]
    return CanaryStatus(
        student=target.student,
        round=target.round,
        step=number,
        steps=len(spec.steps),
        weight=step.weight,
        shadow=step.shadow,
        phase=Phase.STARTING,
        message=f"{_share(step)}.",
        step_decided_time=rfc3339(now),
        step_start_time=rfc3339(now),
        spec_hash=_hash(spec),
    )


def superseded(before: CanaryStatus | None, target: ServingTarget) -> str:
    """Return the message that a later student takes the place of an active canary; empty if none does."""
    if before is None or not before.active or before.is_of(target):
        return ""
    former = f"student {before.student} of round {before.round}"
    step = f"step {before.step} of {before.steps}"
    return f"{former} was replaced in {step} by {_name(target)}, which is tried instead."


def needs_polling(status: Mapping[str, Any], observed: Observed) -> bool:
    """Return whether pods are to be polled: a canary is active, or its own servers still exist."""
    canary = CanaryStatus.read(status)
    return (canary is not None and canary.active) or find_canary_servers(observed) is not None


def seconds_to_next_poll(plan: CanaryPlan, observed: Observed) -> float | None:
    """Return the seconds until a canary, or the rest of its servers, is polled again; None if there is neither."""
    return POLL_INTERVAL_SECONDS if plan.canary or find_canary_servers(observed) else None


def list_leftovers(
    owner: RunRef, plan: CanaryPlan, observed: Observed, generation: int, *, complete: bool
) -> tuple[tuple[ObjectRef, str], ...]:
    """Return the canary's own servers once they are not needed, because the stable servers hold it or send it nothing.

    Args:
        owner: the run.
        plan: the canary's.
        observed: the run's objects.
        generation: of the pods' routing document.
        complete: all servers that clients reach hold the stable student.
    """
    deployment = find_canary_servers(observed)
    if deployment is None or plan.canary or deployment["metadata"].get("deletionTimestamp"):
        return ()
    if deployment["spec"]["template"]["metadata"]["labels"].get(STUDENT_LABEL) != plan.stable.student:
        names = (pod["metadata"]["name"] for pod in serving_pods(observed))
        unused = all(observed.generations.get(name) == generation for name in names)
        complete = unused or observed.seconds_since_last_report >= MAX_SILENCE_SECONDS
    return canary_servers.list_objects(owner, deployment) if complete else ()


def _current_step(context: CanaryContext, spec: Canary, before: CanaryStatus | None) -> CanaryStatus:
    """Return the canary at the step to evaluate: a new canary starts, and an edit starts the step again."""
    if before is None or not before.is_of(context.target) or not before.active:
        return start_step(context.target, spec, 1, context.now)
    if before.spec_hash != _hash(spec):
        return start_step(context.target, spec, min(before.step, len(spec.steps)), context.now)
    return before


def _collect_evidence(
    context: CanaryContext, stable: ServingTarget, canary: CanaryStatus, before: CanaryStatus | None
) -> Evidence:
    """Return the evidence of the pods that have applied the step; all others report on other traffic."""
    owner, target, observed = context.owner, context.target, context.observed
    route = route_canary(owner, target, canary, observed)
    generation = routing_generation(owner, stable, route)
    pods = [pod["metadata"]["name"] for pod in serving_pods(observed)]
    ready = [name for name in pods if observed.generations.get(name) == generation]
    traffic = [observed.traffic.get(name, {}) for name in ready]
    has_servers = route is not None and not waits_for_servers(owner, target, canary, observed)
    return Evidence(
        canary=Counts.sum(counts.get(target.student, Counts()) for counts in traffic),
        stable=Counts.sum(counts.get(stable.student, Counts()) for counts in traffic),
        all_pods_ready=has_servers and bool(pods) and len(ready) == len(pods),
        seconds_since_last_report=observed.seconds_since_last_report,
        abort_requested=context.abort_requested and before is not None and before.active and before.is_of(target),
    )


def _describe(target: ServingTarget, spec: Canary, canary: CanaryStatus) -> ConditionUpdate:
    """Return the condition of an active canary."""
    share = _share(spec.steps[canary.step - 1])
    text = f"Step {canary.step} of {canary.steps}: {_name(target)} {share}"
    if spec.paused:
        return ConditionUpdate(True, Reason.PAUSED, f"{text}, until you resume it.")
    if canary.phase == Phase.INCONCLUSIVE:
        fix = "Promote it, roll it back, or change spec.serving.canary."
        return ConditionUpdate(True, Reason.INCONCLUSIVE, f"{text}. {canary.message} {fix}")
    return ConditionUpdate(True, Reason.STEP_STARTED, f"{text}.")


def _hash(spec: Canary) -> str:
    return digest(spec.model_dump(mode="json", exclude={"paused"}))


def _share(step: CanaryStep) -> str:
    return "gets a copy of every request" if step.shadow else f"gets {step.weight} % of the sessions"


def _name(target: ServingTarget) -> str:
    return f"{target.display_name} of round {target.round}"
