"""The intervals at which the operator polls what no watch reports."""

from __future__ import annotations

from datetime import timedelta

FAILURES_SECONDS = 20.0
"""The poll interval of recorders for the number of failures, while a round waits for them."""

SUSPICION_SECONDS = 15.0
"""The poll interval of events about objects that may be stuck."""

_ROLLOUT_SECONDS = 1.0  # serving pods report another student within seconds, or something is wrong
_ROLLOUT_PERIOD = timedelta(minutes=1)


def rollout_seconds(age: timedelta) -> float:
    """Return the poll interval of serving pods that load a student; ``age`` is how long Serving has been False."""
    return _ROLLOUT_SECONDS if age < _ROLLOUT_PERIOD else SUSPICION_SECONDS
