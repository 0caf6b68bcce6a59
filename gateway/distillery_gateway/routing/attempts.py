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
        number: of the retry, from 0 for the first attempt; None where the client does not number its attempts.
        content: digest of what a retry has in common with its first attempt.
    """

    number: int | None = None
    content: bytes = b""

    @classmethod
    def of(cls, headers: Mapping[str, str], *parts: str | bytes) -> Attempt:
        """Return the attempt of a request with these headers, and these parts in common with its retries."""
        number = headers.get(RETRY_COUNT, "")
        if number.isascii() and number.isdigit() and len(number) < 4:
            return cls(int(number))
        content = hashlib.sha256()
        for part in parts:
            raw = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")  # halves of characters
            content.update(hashlib.sha256(raw).digest())
        return cls(content=content.digest())


FIRST_ATTEMPT = Attempt(0)
"""The attempt of a request that is not a retry."""


class Failures:
    """The latest failures, by which later requests are recognized as retries.

    If a client doesn't number its attempts, the same request within half a minute of its failure is a retry, twice:
    so a client that repeats one request forever counts every third time.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[bytes, tuple[float, int]] = {}

    def is_retry(self, attempt: Attempt) -> bool:
        """Return whether the request is a retry; uses up one of those that its failure allows."""
        if attempt.number is not None:
            return attempt.number > 0
        failed_at, retries = self._failures.get(attempt.content, (0.0, 0))
        if not retries or self._clock() - failed_at > _RETRY_SECONDS:
            return False
        self._failures[attempt.content] = (failed_at, retries - 1)
        return True

    def add(self, attempt: Attempt) -> None:
        """Remember a first attempt that failed."""
        if attempt.number is not None:
            return
        self._failures.pop(attempt.content, None)
        self._failures[attempt.content] = (self._clock(), _MAX_RETRIES)
        if len(self._failures) > _MAX_FAILURES:
            del self._failures[next(iter(self._failures))]
