"""The rules of a canary, one by one and at their boundaries."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from distillery.core.api.spec.canary import Canary
from distillery.core.contracts.traffic import Counts
from distillery_operator.decide.canary import rules
from distillery_operator.decide.canary.rules import RULES, Evidence, Rule, evaluate
from distillery_operator.decide.canary.state import CanaryStatus, Phase, Transition
from distillery_operator.model.objects import rfc3339

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
GOOD = Evidence(canary=Counts(1000), stable=Counts(1000))
BAD = Evidence(canary=Counts(1000, 300), stable=Counts(1000))
SHORT = "Neither better nor worse is shown after 3600 s: the canary answered 0 of 100 requests."


def spec_of(**canary: Any) -> Canary:
    canary = {"steps": [{"weight": 50, "minDurationSeconds": 60}] * 2, **canary}
    return Canary.model_validate_json(json.dumps(canary))


SPEC = spec_of()
ABORT = spec_of(inconclusivePolicy="Abort")


def canary_at(phase: Phase, *, seconds: float = 0, step: int = 1, had_traffic: bool = False) -> CanaryStatus:
    """A canary whose step started so many seconds ago."""
    start = rfc3339(NOW - timedelta(seconds=seconds))
    decided = rfc3339(NOW - timedelta(days=1)) if had_traffic else start
    return CanaryStatus("2abcdef01234", 2, step, 2, 50, False, phase, "Before.", decided, start, "hash")


STARTING, RUNNING, INCONCLUSIVE = (canary_at(phase) for phase in (Phase.STARTING, Phase.RUNNING, Phase.INCONCLUSIVE))


def apply(rule: Rule, canary: CanaryStatus, evidence: Evidence | None = None, spec: Canary = SPEC) -> Transition | None:
    return rule(canary, evidence or Evidence(), spec, NOW)


@pytest.mark.parametrize("canary", [STARTING, RUNNING, INCONCLUSIVE])
def test_abort_requested_aborts_in_every_phase(canary: CanaryStatus):
    aborted = Transition(Phase.ABORTED, "The user aborted it.")
    assert apply(rules.abort_requested, canary, Evidence(abort_requested=True)) == aborted
    assert apply(rules.abort_requested, canary) is None


@pytest.mark.parametrize(
    ("canary", "ready", "expected"),
    [
        (STARTING, True, Transition(Phase.RUNNING)),
        (STARTING, False, None),
        (RUNNING, True, None),
        (INCONCLUSIVE, True, None),
    ],
)
def test_all_pods_ready_starts_the_step(canary: CanaryStatus, ready: bool, expected: Transition | None):
    assert apply(rules.all_pods_ready, canary, Evidence(all_pods_ready=ready)) == expected


@pytest.mark.parametrize("canary", [STARTING, RUNNING, INCONCLUSIVE])
def test_paused_keeps_the_phase(canary: CanaryStatus):
    assert apply(rules.paused, canary, BAD, spec_of(paused=True)) == Transition(canary.phase)
    assert apply(rules.paused, canary, BAD) is None


@pytest.mark.parametrize(
    ("canary", "silence", "fires"),
    [
        (RUNNING, 119.9, False),
        (RUNNING, 120.0, True),
        (STARTING, 600.0, False),
        (canary_at(Phase.STARTING, step=2), 120.0, True),
        (INCONCLUSIVE, 120.0, False),
        (canary_at(Phase.INCONCLUSIVE, had_traffic=True), 120.0, True),
    ],
)
def test_pods_silent_fires_after_two_minutes_with_traffic(canary: CanaryStatus, silence: float, fires: bool):
    error = Transition(Phase.ERROR, "No pod said for 120 s how it does.")
    result = apply(rules.pods_silent, canary, Evidence(seconds_since_last_report=silence))
    assert result == (error if fires else None)


@pytest.mark.parametrize("canary", [STARTING, RUNNING, INCONCLUSIVE])
def test_harm_shown_fails_in_every_phase(canary: CanaryStatus):
    failed = apply(rules.harm_shown, canary, BAD)
    assert failed
    assert failed.phase == Phase.FAILED
    assert failed.message
    assert failed.message.startswith("Errors are up by at least")
    assert apply(rules.harm_shown, canary, GOOD) is None


def test_harm_shown_takes_more_evidence_when_there_are_more_steps():
    evidence = Evidence(canary=Counts(1000, 64), stable=Counts(10_000, 100))
    step = {"weight": 50, "minDurationSeconds": 60}
    assert apply(rules.harm_shown, RUNNING, evidence, spec_of(steps=[step]))
    assert apply(rules.harm_shown, RUNNING, evidence, spec_of(steps=[step] * 10)) is None


@pytest.mark.parametrize(
    ("phase", "seconds", "fires"),
    [
        (Phase.RUNNING, 59, False),
        (Phase.RUNNING, 60, True),
        (Phase.STARTING, 60, False),
        (Phase.INCONCLUSIVE, 60, False),
    ],
)
def test_step_passed_fires_after_the_shortest_duration(phase: Phase, seconds: int, fires: bool):
    result = apply(rules.step_passed, canary_at(phase, seconds=seconds), GOOD)
    assert (result is not None) == fires
    if result:
        assert result.phase == Phase.SUCCESSFUL
        assert (result.message or "").startswith("Errors are up by at most")


@pytest.mark.parametrize("evidence", [BAD, Evidence(canary=Counts(99), stable=Counts(1000))])
def test_step_passed_needs_a_successful_verdict(evidence: Evidence):
    assert apply(rules.step_passed, canary_at(Phase.RUNNING, seconds=600), evidence) is None


def test_step_passed_ignores_outcomes_when_the_step_is_a_shadow():
    spec = spec_of(
        steps=[{"shadow": True, "minDurationSeconds": 60}, {"weight": 50, "minDurationSeconds": 60}],
        analysis={"minSessions": 50},
    )
    assert apply(rules.step_passed, canary_at(Phase.RUNNING, seconds=60), GOOD, spec)
    assert apply(rules.step_passed, canary_at(Phase.RUNNING, seconds=60, step=2), GOOD, spec) is None


@pytest.mark.parametrize(("spec", "phase"), [(SPEC, Phase.INCONCLUSIVE), (ABORT, Phase.FAILED)])
@pytest.mark.parametrize(
    ("rule", "active", "message"),
    [
        (rules.start_deadline, Phase.STARTING, "Not every pod served it within 3600 s."),
        (rules.progress_deadline, Phase.RUNNING, SHORT),
    ],
)
def test_deadline_fires_when_it_is_reached(rule: Rule, active: Phase, message: str, spec: Canary, phase: Phase):
    assert apply(rule, canary_at(active, seconds=3599), spec=spec) is None
    assert apply(rule, canary_at(active, seconds=3600), spec=spec) == Transition(phase, message)
    for other in {Phase.STARTING, Phase.RUNNING, Phase.INCONCLUSIVE} - {active}:
        assert apply(rule, canary_at(other, seconds=9999), spec=spec) is None


def test_rules_have_this_order():
    assert [rule.__name__ for rule in RULES] == [
        "abort_requested", "all_pods_ready", "paused", "pods_silent", "harm_shown", "step_passed", "start_deadline",
        "progress_deadline",
    ]  # fmt: skip


def test_evaluate_takes_the_first_rule_that_fires():
    everything = replace(BAD, seconds_since_last_report=120, abort_requested=True)
    late = canary_at(Phase.RUNNING, seconds=9999)
    assert evaluate(late, everything, spec_of(paused=True), NOW).phase == Phase.ABORTED
    unaborted = replace(everything, abort_requested=False)
    assert evaluate(late, unaborted, spec_of(paused=True), NOW) == late
    assert evaluate(late, unaborted, SPEC, NOW).phase == Phase.ERROR
    assert evaluate(late, BAD, SPEC, NOW).phase == Phase.FAILED
    assert evaluate(late, GOOD, SPEC, NOW).phase == Phase.SUCCESSFUL


def test_evaluate_keeps_the_counts_that_led_to_a_transition():
    failed = evaluate(RUNNING, BAD, SPEC, NOW)
    assert (failed.canary, failed.stable) == (BAD.canary, BAD.stable)
    assert evaluate(RUNNING, GOOD, SPEC, NOW) == RUNNING, "nothing fires, and nothing is written"


def test_step_start_time_is_when_all_pods_are_ready():
    waiting = canary_at(Phase.STARTING, seconds=30)
    started = evaluate(waiting, Evidence(all_pods_ready=True), spec_of(paused=True), NOW)
    assert (started.phase, started.step_start_time, started.message) == (Phase.RUNNING, rfc3339(NOW), "Before.")
    failed = evaluate(waiting, BAD, SPEC, NOW)
    assert failed.step_start_time == waiting.step_start_time
