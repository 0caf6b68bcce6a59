"""The status of a canary, as it is written and read again."""

from __future__ import annotations

from typing import Any

from distillery.core.contracts.traffic import Counts
from distillery_operator.decide.canary.state import CanaryStatus, Phase

CANARY = CanaryStatus(
    "2abcdef01234", 2, 1, 2, 50, False, Phase.RUNNING, "gets 50 %.", "2026-11-25T12:00:00Z", "2026-11-25T12:00:05Z",
    "hash", Counts(10, 1), Counts(20),
)  # fmt: skip


def test_canary_is_read_as_it_was_written():
    assert CanaryStatus.read({"serving": {"canary": CANARY.to_status()}}) == CANARY


def test_canary_is_ignored_when_its_phase_is_unknown():
    record: dict[str, Any] = {**CANARY.to_status(), "phase": "Paused"}
    assert CanaryStatus.read({"serving": {"canary": record}}) is None
