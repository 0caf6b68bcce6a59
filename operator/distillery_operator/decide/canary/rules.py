"""The rules by which a canary changes its phase, in their order: the first rule that fires decides. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from distillery.core.api.spec.canary import Canary
from distillery.core.contracts.traffic import Counts
from distillery_operator.decide.canary.analysis import AnalysisPhase, StepAnalysis
from distillery_operator.decide.canary.state import CanaryStatus, Phase, Transition

MAX_SILENCE_SECONDS = 120.0
"""The time without any report of a serving pod after which pods count as unreachable."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence of one poll.

    Attributes:
        canary: the canary's traffic counts.
        stable: the stable student's.
        all_pods_ready: every pod has applied the step, and the canary has the servers that the step needs.
        seconds_since_last_report: of a serving pod.
        abort_requested: the user wants the end of the canary.
    """

    canary: Counts = field(default_factory=Counts)
    stable: Counts = field(default_factory=Counts)
    all_pods_ready: bool = False
    seconds_since_last_report: float = 0.0
    abort_requested: bool = False


Rule = Callable[[CanaryStatus, Evidence, Canary, datetime], Transition | None]


def abort_requested(canary: CanaryStatus, evidence: Evidence, spec: Canary, now: datetime) -> Transition | None:
    """Abort the canary because the user says so."""
    return Transition(Phase.ABORTED, "The user aborted it.") if evidence.abort_requested else None


def all_pods_ready(canary: CanaryStatus, evidence: Evidence, spec: Canary, now: datetime) -> Transition | None:
    """Start the clock of the step once every pod has applied it."""
    return Transition(Phase.RUNNING) if canary.phase == Phase.STARTING and evidence.all_pods_ready else None


def paused(canary: CanaryStatus, evidence: Evidence, spec: Canary, now: datetime) -> Transition | None:
    """Keep the phase while the user pauses the canary, whatever the analysis says."""
    return Transition(canary.phase) if spec.paused else None


def pods_silent(canary: CanaryStatus, evidence: Evidence, spec: Canary, now: datetime) -> Transition | None:
    """Roll back a canary with traffic if nobody knows how it does. Before that, pods may take their time to start."""
    seconds = evidence.seconds_since_last_report
    if seconds < MAX_SILENCE_SECONDS or not canary.received_traffic:
        return None
    return Transition(Phase.ERROR, f"No pod said for {seconds:.0f} s how it does.")


def harm_shown(canary: CanaryStatus, evidence: Evidence, spec: Canary, now: datetime) -> Transition | None:
    """Fail the canary as soon as it is shown to be worse than allowed, in whatever phase."""
    result = _analysis(canary, evidence, spec).judge()
    return Transition(Phase.FAILED, result.message) if result.phase == AnalysisPhase.FAILED else None


def step_passed(canary: CanaryStatus, evidence: Evidence, spec: Canary, now: datetime) -> Transition | None:
    """Pass the step after its shortest duration, if the canary is shown to be no worse than allowed."""
    step = spec.steps[canary.step - 1]
    if canary.phase != Phase.RUNNING or canary.seconds_in_step(now) < step.min_duration_seconds:
        return None
    result = _analysis(canary, evidence, spec).judge()
    return Transition(Phase.SUCCESSFUL, result.message) if result.phase == AnalysisPhase.SUCCESSFUL else None


def start_deadline(canary: CanaryStatus, evidence: Evidence, spec: Canary, now: datetime) -> Transition | None:
    """End the wait for pods that do not apply the step in time."""
    deadline = spec.steps[canary.step - 1].progress_deadline_seconds
    if canary.phase != Phase.STARTING or canary.seconds_in_step(now) < deadline:
        return None
    return Transition(_phase_without_verdict(spec), f"Not every pod served it within {deadline} s.")


def progress_deadline(canary: CanaryStatus, evidence: Evidence, spec: Canary, now: datetime) -> Transition | None:
    """End the step that has no verdict in time."""
    deadline = spec.steps[canary.step - 1].progress_deadline_seconds
    if canary.phase != Phase.RUNNING or canary.seconds_in_step(now) < deadline:
        return None
    analysis = _analysis(canary, evidence, spec)
    reason = analysis.judge().message or analysis.explain()
    message = f"Neither better nor worse is shown after {deadline} s: {reason}."
    return Transition(_phase_without_verdict(spec), message)


RULES: tuple[Rule, ...] = (
    abort_requested,
    all_pods_ready,
    paused,
    pods_silent,
    harm_shown,
    step_passed,
    start_deadline,
    progress_deadline,
)


def evaluate(canary: CanaryStatus, evidence: Evidence, spec: Canary, now: datetime) -> CanaryStatus:
    """Return the status after a poll; the same if no rule fires."""
    for rule in RULES:
        if transition := rule(canary, evidence, spec, now):
            return canary.apply(transition, now, canary=evidence.canary, stable=evidence.stable)
    return canary


def _analysis(canary: CanaryStatus, evidence: Evidence, spec: Canary) -> StepAnalysis:
    shadow = spec.steps[canary.step - 1].shadow
    return StepAnalysis(evidence.canary, evidence.stable, spec.analysis, shadow=shadow, steps=len(spec.steps))


def _phase_without_verdict(spec: Canary) -> Phase:
    return Phase.FAILED if spec.inconclusive_policy == "Abort" else Phase.INCONCLUSIVE
