"""What counts of live traffic show, against values worked by hand and published ones."""

from __future__ import annotations

import pytest

from distillery.api.promotion import CanaryAnalysis
from distillery_operator.analysis import Counts, difference, judge, wilson


@pytest.mark.parametrize(
    ("events", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Statistics in Medicine 17: 857-872, table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilsons_interval_is_the_published_one(events: int, n: int, low: float, high: float):
    assert wilson(events, n, 0.95) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),  # the same, 17: 873-890, table II, method 10
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((3, 0), (0, 20), -1.0, 1.0),
    ],
)
def test_newcombes_interval_is_the_published_one(one: tuple[int, int], other: tuple[int, int], low: float, high: float):
    assert difference(one, other, 0.95) == pytest.approx((low, high), abs=5e-5)


def found(newcomer: Counts, incumbent: Counts, *, shadow: bool = False, over: bool = True, sessions: int = 0) -> str:
    analysis = CanaryAnalysis.model_validate({"minSessions": sessions})
    return judge(newcomer, incumbent, analysis, shadow=shadow, over=over).outcome


MANY = Counts(10_000, 100)


@pytest.mark.parametrize(
    ("newcomer", "incumbent", "outcome"),
    [
        # without errors the upper bound is z^2 / (n + z^2): 0.0199 of 189, 0.0201 of 187
        (Counts(189), Counts(10_000), "Successful"),
        (Counts(187), Counts(10_000), "Running"),
        (Counts(99), Counts(10_000), "Running"),
        (Counts(1000, 10), MANY, "Successful"),
        (Counts(1000, 25), MANY, "Running"),  # 2.5 % before 1 %: up by 0.7 to 2.7 points
        (Counts(1000, 60), MANY, "Failed"),  # 6 % before 1 %: up by 3.7 to 6.7 points
        (Counts(200, 20), Counts(200, 20), "Running"),  # as many errors, and too few requests to tell
        (Counts(5000, 500), Counts(5000, 500), "Successful"),
    ],
)
def test_errors_are_compared_with_the_incumbents(newcomer: Counts, incumbent: Counts, outcome: str):
    assert found(newcomer, incumbent) == outcome


def test_a_step_that_is_not_over_is_not_successful_and_fails_by_clear_harm_alone():
    assert found(Counts(5000), MANY, over=False) == "Running"
    # 5.5 % before 1 %: up by 3.3 points at 95 %, by 1.7 at 99.9 %
    assert found(Counts(1000, 45), MANY, over=False) == "Running"
    assert found(Counts(1000, 45), MANY, over=True) == "Failed"
    assert found(Counts(1000, 80), MANY, over=False) == "Failed"


def test_harm_is_believed_at_no_less_than_the_confidence_asked_for():
    worse, analysis = Counts(1000, 52), CanaryAnalysis.model_validate({"confidence": 0.9999999})
    assert judge(worse, MANY, CanaryAnalysis(), shadow=False, over=False).outcome == "Failed"
    assert judge(worse, MANY, analysis, shadow=False, over=False).outcome == "Running"


def test_harm_is_told_before_there_are_the_requests_that_success_needs():
    assert found(Counts(10, 9), MANY, over=False) == "Failed"


@pytest.mark.parametrize("errors", [1, 4])
def test_a_handful_of_errors_shows_nothing(errors: int):
    assert found(Counts(errors, errors), MANY, over=False) == "Running"


@pytest.mark.parametrize(
    ("newcomer", "incumbent", "outcome"),
    [
        (Counts(1000, 0, 1000, 800), Counts(1000, 0, 1000, 800), "Successful"),
        (Counts(1000, 0, 200, 160), Counts(1000, 0, 1000, 800), "Running"),
        (Counts(1000, 0, 49, 49), Counts(1000, 0, 1000, 0), "Running"),
        (Counts(1000, 0, 1000, 1000), Counts(1000, 0, 49, 0), "Running"),
        (Counts(1000, 0, 1000, 700), Counts(1000, 0, 1000, 800), "Failed"),  # down by 6.2 to 13.7 points
        (Counts(1000, 0, 1000, 770), Counts(1000, 0, 1000, 800), "Running"),  # down by -0.6 to 6.6
        (Counts(1000, 0, 200, 0), Counts(1000, 0, 200, 160), "Failed"),
    ],
)
def test_successes_are_compared_where_they_are_asked_for(newcomer: Counts, incumbent: Counts, outcome: str):
    assert found(newcomer, incumbent, sessions=50) == outcome
    assert found(newcomer, incumbent) == "Successful"
    assert found(newcomer, incumbent, shadow=True, sessions=50) == "Successful", "nobody sees what a shadow answers"


def test_what_is_shown_is_told_with_its_counts():
    failed = judge(Counts(1000, 60), MANY, CanaryAnalysis(), shadow=False, over=False)
    assert failed.message == "Errors are up by at least 2.9 points (60 of 1000 requests, before 100 of 10000)."
    lacks = judge(Counts(60), MANY, CanaryAnalysis(), shadow=False, over=True)
    assert lacks.message == "the newcomer answered 60 of 100 requests"


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
def test_counts_that_can_not_be_are_refused(said: dict[str, object]):
    with pytest.raises(ValueError, match=r"counts|invalid literal"):
        Counts.read(said)
