"""Retries differ from second requests, within limits."""

from __future__ import annotations

import pytest

from distillery_gateway.routing import attempts
from distillery_gateway.routing.attempts import Attempt, Failures


@pytest.mark.parametrize(("said", "retry"), [("0", False), ("1", True), ("2", True)])
def test_attempt_is_a_retry_when_its_client_numbers_it(said: str, retry: bool):
    failures, attempt = Failures(), Attempt.of({"x-stainless-retry-count": said}, "key", b"body")
    failures.add(Attempt.of({}, "key", b"body"))
    assert failures.is_retry(attempt) is retry


@pytest.mark.parametrize("said", ["", "-1", "1.5", "\u0663", "9999999"])
def test_attempt_has_no_number_when_the_header_is_invalid(said: str):
    assert Attempt.of({"x-stainless-retry-count": said}, "key", b"body").number is None


def test_failures_differ_when_any_part_differs():
    failures = Failures()
    failures.add(Attempt.of({}, "key", "session", b"body"))
    for other in (
        ("kez", "session", b"body"),
        ("key", "", b"body"),
        ("key", "session", b"x"),
        ("keysession", "", b"body"),
    ):
        assert not failures.is_retry(Attempt.of({}, *other))
    assert failures.is_retry(Attempt.of({}, "key", "session", b"body"))


def test_failures_allow_two_retries_within_half_a_minute():
    now = 100.0
    failures, attempt = Failures(lambda: now), Attempt.of({}, "\ud800", b"body")
    assert not failures.is_retry(attempt)
    failures.add(attempt)
    assert [failures.is_retry(attempt) for _ in range(3)] == [True, True, False]
    failures.add(attempt)
    now += 31
    assert not failures.is_retry(attempt)


def test_failures_are_dropped_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attempts, "_MAX_FAILURES", 3)
    failures, all_of_them = Failures(), [Attempt.of({}, str(number)) for number in range(4)]
    for attempt in all_of_them:
        failures.add(attempt)
    assert [failures.is_retry(attempt) for attempt in all_of_them] == [False, True, True, True]
