"""The attempts of a client at one request: a retry is not a second request, as far as a gateway can tell."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

RETRY_COUNT = "x-stainless-retry-count"
"""The header by which OpenAI's and Anthropic's libraries number their attempts, from 0."""

_RETRY_SECONDS = 30.0
_MAX_RETRIES = 2  # what the libraries make by default
_MAX_FAILURES = 10_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request as it is compared with those before it.

    Attributes:
        number: of the retry, from 0 for the first attempt; None where the client doesn't say.
        parts: what a retry has in common with its first attempt.
    """

    number: int | None = None
    parts: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, headers: Mapping[str, str], *parts: str | bytes) -> Attempt:
        """Return the attempt of a request with these headers."""
        said = headers.get(RETRY_COUNT, "")
        number = int(said) if said.isascii() and said.isdigit() and len(said) < 4 else None
        # a client may send halves of characters
        return cls(number, tuple(p if isinstance(p, bytes) else p.encode("utf-8", "surrogatepass") for p in parts))


class Failures:
    """The latest failures, by which requests that follow them are told to be retries.

    Where a client doesn't number its attempts, the same request within half a minute of its failure is a retry, twice:
    so a client that sends one request for ever counts every third time.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[bytes, tuple[float, int]] = {}

    def is_retry(self, attempt: Attempt) -> bool:
        """Whether the request is a retry; uses up one of those that its failure allows."""
        if attempt.number is not None:
            return attempt.number > 0
        if not self._failures:
            return False
        name = _name(attempt)
        failed_at, retries = self._failures.get(name, (0.0, 0))
        if not retries or self._clock() - failed_at > _RETRY_SECONDS:
            return False
        self._failures[name] = (failed_at, retries - 1)
        return True

    def add(self, attempt: Attempt) -> None:
        """Remember a first attempt that failed."""
        if attempt.number is not None or not attempt.parts:
            return
        name = _name(attempt)
        self._failures.pop(name, None)
        self._failures[name] = (self._clock(), _MAX_RETRIES)
        if len(self._failures) > _MAX_FAILURES:
            del self._failures[next(iter(self._failures))]


def _name(attempt: Attempt) -> bytes:
    parts = (hashlib.sha256(part).digest() for part in attempt.parts)
    return hashlib.sha256(b"".join(parts)).digest()
