"""The analysis of live traffic: what counts show, and how often they mislead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from distillery.core.api.spec.canary import CanaryAnalysis
from distillery.core.contracts.traffic import Counts
from distillery_operator.decide.canary.analysis import StepAnalysis


def judge(canary: Counts, stable: Counts, *, shadow: bool = False, sessions: int = 0) -> str:
    bounds = CanaryAnalysis.model_validate({"minSessions": sessions})
    return StepAnalysis(canary, stable, bounds, shadow=shadow).judge().outcome


MANY = Counts(10_000, 100)


@pytest.mark.parametrize(
    ("canary", "stable", "outcome"),
    [
        (Counts(217), Counts(10_000), "Successful"),  # see test_proportions
        (Counts(215), Counts(10_000), "Running"),
        (Counts(99), Counts(10_000), "Running"),
        (Counts(1000, 10), MANY, "Successful"),  # up by at most 1.9 points
        (Counts(1000, 25), MANY, "Running"),
        (Counts(1000, 60), MANY, "Running"),  # 6 % before 1 %: up by at least 1.9 points
        (Counts(1000, 70), MANY, "Failed"),
        (Counts(200, 20), Counts(200, 20), "Running"),  # as many errors, and too few requests to tell
        (Counts(9000, 900), Counts(9000, 900), "Successful"),
    ],
)
def test_errors_are_compared_with_those_of_stable(canary: Counts, stable: Counts, outcome: str):
    assert judge(canary, stable) == outcome


def test_judge_tells_success_from_harm():
    assert judge(Counts(5000), MANY) == "Successful"
    assert judge(Counts(1000, 60), MANY) == "Running"
    assert judge(Counts(1000, 80), MANY) == "Failed"


def test_steps_and_metrics_share_the_level_of_a_rollback():
    bounds, worse = CanaryAnalysis(), Counts(1000, 64)
    assert StepAnalysis(worse, MANY, bounds, steps=1).judge().outcome == "Failed"
    assert StepAnalysis(worse, MANY, bounds, steps=10).judge().outcome == "Running"


@pytest.mark.parametrize(
    ("canary", "outcome"),
    [
        (Counts(1000, 0, slow=50), "Successful"),
        (Counts(1000, 0, slow=150), "Running"),
        (Counts(1000, 0, slow=300), "Failed"),
        (Counts(20, 0, slow=20), "Failed"),  # it hangs: no request ends, and none is an error
    ],
)
def test_slow_requests_are_compared_with_those_of_stable(canary: Counts, outcome: str):
    assert judge(canary, Counts(10_000, 0, slow=500)) == outcome


def test_harm_is_shown_before_min_requests():
    assert judge(Counts(10, 9), MANY) == "Failed"


@pytest.mark.parametrize("errors", [1, 4])
def test_four_errors_show_no_harm(errors: int):
    assert judge(Counts(errors, errors), MANY) == "Running"


@pytest.mark.parametrize(
    ("canary", "stable", "outcome"),
    [
        (Counts(1000, 0, 2200, 1760), Counts(1000, 0, 2200, 1760), "Successful"),
        (Counts(1000, 0, 200, 160), Counts(1000, 0, 1000, 800), "Running"),
        (Counts(1000, 0, 49, 49), Counts(1000, 0, 1000, 0), "Running"),
        (Counts(1000, 0, 1000, 1000), Counts(1000, 0, 49, 0), "Running"),
        (Counts(1000, 0, 1000, 640), Counts(1000, 0, 1000, 800), "Failed"),
        (Counts(1000, 0, 1000, 770), Counts(1000, 0, 1000, 800), "Running"),
        (Counts(1000, 0, 200, 0), Counts(1000, 0, 200, 160), "Failed"),
    ],
)
def test_successes_are_compared_when_min_sessions_is_set(canary: Counts, stable: Counts, outcome: str):
    assert judge(canary, stable, sessions=50) == outcome
    assert judge(canary, stable) == "Successful"
    assert judge(canary, stable, shadow=True, sessions=50) == "Successful", "nobody sees its answers"


def test_verdict_message_has_the_counts():
    failed = StepAnalysis(Counts(1000, 80), MANY, CanaryAnalysis()).judge()
    assert failed.message == "Errors are up by at least 3.2 points (80 of 1000 requests, before 100 of 10000)."
    slow = StepAnalysis(Counts(90, slow=90), MANY, CanaryAnalysis()).judge()
    assert slow.message.startswith("Slow requests are up by at least 86.5 points")
    assert "slow 90, before 0" in slow.message


SESSIONS = CanaryAnalysis.model_validate({"minSessions": 50})


def test_verdict_message_has_the_sessions_when_outcomes_are_compared():
    message = StepAnalysis(Counts(900, 0, 1000, 640), Counts(800, 0, 1000, 800), SESSIONS).judge().message
    assert message.startswith("Successes are down by at least ")
    assert message.endswith("(0 of 900 requests, before 0 of 800; 640 of 1000 sessions, before 800 of 1000).")


def test_explain_says_how_many_sessions_are_needed():
    text = StepAnalysis(Counts(1000, 0, 200, 160), Counts(1000, 0, 1000, 800), SESSIONS).explain()
    assert text.startswith("successes may be down by ")
    assert text.endswith(" sessions of the canary to show")


def test_explain_says_how_many_requests_are_needed():
    undecided = StepAnalysis(Counts(300, 3), Counts(300, 3), CanaryAnalysis())
    assert undecided.judge().message == ""
    assert undecided.explain() == (
        "errors may be up by 4.1 points, and 2 are allowed; equal rates take about 1008 requests of the canary to show"
    )


@pytest.mark.parametrize(("requests", "message"), [(99, "the canary answered 99 of 100 requests"), (100, "")])
def test_min_requests_are_reached_by_exactly_as_many(requests: int, message: str):
    bounds = CanaryAnalysis.model_validate({"maxErrorRateIncrease": 0.5, "maxSlowRateIncrease": 0.5})
    analysis = StepAnalysis(Counts(requests), MANY, bounds)
    assert analysis.explain() == message
    assert analysis.judge().outcome == ("Running" if message else "Successful")


@pytest.mark.parametrize("side", ["canary", "stable"])
@pytest.mark.parametrize(("sessions", "message"), [(99, "clients reported outcomes of 99 of 100 sessions"), (100, "")])
def test_min_sessions_are_reached_by_exactly_as_many(side: str, sessions: int, message: str):
    bounds = CanaryAnalysis.model_validate({"minSessions": 100, "maxSuccessRateDrop": 0.5})
    few, enough = Counts(1000, 0, sessions, sessions), Counts(1000, 0, 500, 500)
    canary, stable = (few, enough) if side == "canary" else (enough, few)
    analysis = StepAnalysis(canary, stable, bounds)
    assert analysis.explain() == message
    assert analysis.judge().outcome == ("Running" if message else "Successful")


@pytest.mark.parametrize(("errors", "outcome"), [(4, "Running"), (5, "Failed")])
def test_harm_takes_at_least_five_errors(errors: int, outcome: str):
    assert judge(Counts(errors, errors), MANY) == outcome


def test_explain_names_the_first_metric_that_is_not_shown():
    text = StepAnalysis(Counts(1000, slow=150), Counts(10_000, slow=500), CanaryAnalysis()).explain()
    assert text.startswith("slow requests may be up by")
    assert " of the canary to show" in text


def test_explain_names_no_number_when_no_number_is_enough():
    bounds = CanaryAnalysis.model_validate({"maxErrorRateIncrease": 1e-6})
    assert StepAnalysis(Counts(1000, 500), Counts(1000, 500), bounds).explain().endswith(", and 0.0001 are allowed")


def test_success_is_never_down_by_less_than_nothing():
    message = StepAnalysis(Counts(100_000), Counts(100_000, 50_000), CanaryAnalysis()).judge().message
    assert message.startswith("Errors are up by at most 0.0 points")


@pytest.mark.parametrize(
    ("canary", "stable", "shown"),
    [(Counts(1000), Counts(1000), False), (Counts(1000, slow=1), Counts(1000), True), (Counts(1000), MANY, False),
     (Counts(1000), Counts(1000, slow=1), True)],
)  # fmt: skip
def test_verdict_message_has_slow_requests_when_there_are_any(canary: Counts, stable: Counts, shown: bool):
    message = StepAnalysis(canary, stable, CanaryAnalysis()).judge().message
    assert message.endswith(").")
    assert ("; slow" in message) == shown


LEVEL = 0.05
CANARIES = 200


def end_of(generator: np.random.Generator, rates: Rates, *, steps: int = 1, drift: float = 0.0) -> str:
    """The end of a canary after 9,000 requests of either side and 170 polls in each step, the later ones 3 % apart."""
    bounds = CanaryAnalysis.model_validate({"minSessions": 50, "minRequests": 50, "confidence": 1 - LEVEL})
    for _ in range(steps):
        ends = [*range(5, 200, 5), *(int(200 * 1.03**k) for k in range(130))]
        canary, stable, past = [0, 0, 0], [0, 0, 0], 0
        outcome = "Running"
        for end in ends:
            moved = drift * np.sin(end / 200)
            for events, ps in ((canary, rates.canary), (stable, rates.stable)):
                for number, p in enumerate(ps):
                    events[number] += int(generator.binomial(end - past, max(0.0, p + moved)))
            past = end
            first, second = (Counts(end, errors, end, end - failed, slow) for errors, slow, failed in (canary, stable))
            outcome = StepAnalysis(first, second, bounds, steps=steps).judge().outcome
            if outcome != "Running":
                break
        if outcome != "Successful":
            return outcome
    return "Successful"


@dataclass(frozen=True)
class Rates:
    """Errors, slow requests and failed sessions of either side."""

    canary: tuple[float, float, float]
    stable: tuple[float, float, float]


@pytest.mark.parametrize(
    ("rates", "drift"),
    [
        pytest.param(Rates((0, 0, 0.25), (0, 0, 0.2)), 0.0, id="sessions"),
        pytest.param(Rates((0.02, 0, 0), (0, 0, 0)), 0.0, id="errors"),
        pytest.param(Rates((0, 0.2, 0), (0, 0.1, 0)), 0.05, id="slow-and-drifting"),
    ],
)
def test_worse_canaries_are_rarely_promoted_at_any_poll(rates: Rates, drift: float):
    """Each is worse by exactly what is allowed, or by more. Newcombe's interval at each poll
    promoted 18 of 100 by sessions, and 21 by errors, where 2.5 were stated."""
    generator = np.random.default_rng(1)
    ends = [end_of(generator, rates, drift=drift) for _ in range(CANARIES)]
    assert ends.count("Successful") <= LEVEL * CANARIES


@pytest.mark.parametrize(
    "rates",
    [
        pytest.param(Rates((0.01, 0.05, 0.2), (0.01, 0.05, 0.2)), id="equal"),
        pytest.param(Rates((0.03, 0.05, 0.2), (0.01, 0.05, 0.2)), id="worse-by-what-is-allowed"),
    ],
)
def test_canaries_within_what_is_allowed_are_rarely_rolled_back(rates: Rates):
    generator = np.random.default_rng(2)
    ends = [end_of(generator, rates, steps=2) for _ in range(CANARIES)]
    assert ends.count("Failed") <= LEVEL * CANARIES
    if rates.canary == rates.stable:
        assert ends.count("Successful") >= 0.95 * CANARIES, "the power of both steps together, by 9,000 requests"


@pytest.mark.parametrize(
    "said",
    [
        {"requests": 1, "errors": 2, "outcomes": 0, "successes": 0},
        {"requests": -1, "errors": -1, "outcomes": 0, "successes": 0},
        {"requests": 2**60, "errors": 0, "outcomes": 0, "successes": 0},
        {"requests": 1, "errors": 0, "outcomes": 1, "successes": 3},
        {"requests": "many", "errors": 0, "outcomes": 0, "successes": 0},
    ],
)
def test_counts_are_rejected_when_they_are_impossible(said: dict[str, object]):
    with pytest.raises(ValueError, match=r"counts|invalid literal"):
        Counts.read(said)


@pytest.mark.parametrize(
    "values",
    [
        {"requests": 2**53, "errors": 2**53, "outcomes": 2**53, "successes": 2**53, "slow": 2**53},
        {"requests": 0, "errors": 0, "outcomes": 0, "successes": 0},
    ],
)
def test_counts_are_accepted_when_they_are_at_their_limits(values: dict[str, int]):
    assert Counts.read(values) == Counts(**values)


@pytest.mark.parametrize(
    "values",
    [{"requests": 2**53 + 1}, {"outcomes": 2**53 + 1}, {"errors": -1}, {"successes": -1}, {"slow": -1}, {"slow": 1}],
)
def test_counts_are_rejected_just_beyond_their_limits(values: dict[str, int]):
    with pytest.raises(ValueError, match="counts"):
        Counts.read({"requests": 0, "errors": 0, "outcomes": 0, "successes": 0, **values})
