"""The traffic counts have one form for the gateway and the operator, which trusts no pod."""

from __future__ import annotations

import json

import pytest

from distillery.core.contracts.traffic import Counts

COUNTS = Counts(9, 1, 4, 3, 2)
TEXT = '{"requests": 9, "errors": 1, "outcomes": 4, "successes": 3, "slow": 2}'


def test_counts_have_the_form_of_the_first_release():
    assert json.dumps(COUNTS.to_document()) == TEXT
    assert Counts.read(json.loads(TEXT)) == COUNTS


def test_counts_lack_slow_requests_when_the_gateway_is_older():
    assert Counts.read({"requests": 9, "errors": 1, "outcomes": 4, "successes": 3}) == Counts(9, 1, 4, 3)


def test_counts_of_pods_are_added_by_name():
    assert Counts.sum([COUNTS, Counts(1), COUNTS]) == Counts(19, 2, 8, 6, 4)
    assert Counts.sum([]) == Counts()


@pytest.mark.parametrize(
    "document",
    [
        {"requests": 1, "errors": 2, "outcomes": 0, "successes": 0},
        {"requests": -1, "errors": -1, "outcomes": 0, "successes": 0},
        {"requests": 2**60, "errors": 0, "outcomes": 0, "successes": 0},
        {"requests": 1, "errors": 0, "outcomes": 1, "successes": 3},
        {"requests": 1, "errors": 0, "outcomes": 0, "successes": 0, "slow": 2},
        {"requests": "many", "errors": 0, "outcomes": 0, "successes": 0},
    ],
)
def test_counts_are_rejected_when_they_are_impossible(document: dict[str, object]):
    with pytest.raises(ValueError, match=r"counts|invalid literal"):
        Counts.read(document)
