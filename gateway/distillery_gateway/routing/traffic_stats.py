"""The traffic counts of each target since its routing document was applied: evidence for the operator."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp

from distillery.core.contracts.routing import MAX_FIRST_TOKEN_SECONDS, Target
from distillery.core.contracts.traffic import Counts
from distillery_gateway.errors import ApiError, ClientGone
from distillery_gateway.observers import ResponseObserver
from distillery_gateway.routing.attempts import FIRST_ATTEMPT, Attempt, Failures

_MAX_SESSIONS = 50_000  # remembered, so that an outcome counts once, and only for a session that sent requests
_FAILURE = b'data: {"error"'  # an event of vLLM's: in the text of an answer the quotes would be escaped
_SERVER_FAULT = frozenset([401, 403, 408, 429])  # this gateway has checked the key, the body and the limits
_PATIENCE_SECONDS = 1.0  # a client that leaves earlier changed its mind


@dataclass(slots=True)
class Tally:
    """The counts of a target while they grow."""

    counts: Counts = field(default_factory=Counts)

    def add(self, **more: int) -> None:
        """Add to the counts of these names."""
        self.counts = Counts.sum((self.counts, Counts(**more)))


class TrafficObserver(ResponseObserver):
    """The observer that counts one request.

    Args:
        tally: where it counts.
        formatted: the request demands a format, which the model may be unable to write.

    Attributes:
        begun: something of it came.
    """

    def __init__(self, tally: Tally, *, formatted: bool = False) -> None:
        self._tally = tally
        self._formatted = formatted
        self._started = time.monotonic()
        self.begun = self._counted = self._failed = self._excused = False
        self._tail = b""  # of the chunk before: an event may be cut anywhere

    def chunk(self, data: bytes) -> None:
        """Note that more of the response came. Headers are no sign: a server that hangs has sent them too."""
        self.begun = True
        if _FAILURE in self._tail + data:
            self._failed, self._excused = not self._formatted, self._formatted
        self._tail = (self._tail + data[-len(_FAILURE) :])[1 - len(_FAILURE) :]

    def mark_slow(self) -> None:
        """Count the response as slow if the time for the first token is over and nothing came."""
        if not self.begun:
            self._count(slow=True)

    def reject(self, status: int) -> None:
        """Note that an error answers the request."""
        self._failed = status >= 500 or status in _SERVER_FAULT
        self._excused = not self._failed

    def fail(self) -> None:
        """Note that the server behind failed."""
        self._failed = True

    def leave(self) -> None:
        """Note that the client left. Before the first token, that shows slowness if it was patient, else nothing."""
        if not self.begun and not self._counted:
            self._excused = time.monotonic() - self._started < _PATIENCE_SECONDS
            if not self._excused:
                self._count(slow=True)

    def end(self) -> bool:
        """Count the response. Return whether it counts as failed."""
        if self._excused:
            return False
        if not self._counted:
            self._count()
        self._tally.add(errors=int(self._failed))
        return self._failed

    def _count(self, *, slow: bool = False) -> None:
        self._counted = True
        self._tally.add(requests=1, slow=int(slow))


@dataclass(slots=True)
class _Session:
    """A session that sent requests: the last target, and whether its client reported the outcome."""

    target: Target
    has_outcome: bool = False


class TrafficStats:
    """The counts of one routing config; the next config gets others.

    Args:
        targets: of the config: each counts from 0.
        max_first_token_seconds: a request that waits longer for its first token is slow.
    """

    def __init__(
        self, targets: Iterable[Target] = (), max_first_token_seconds: float = MAX_FIRST_TOKEN_SECONDS
    ) -> None:
        self._tallies = {target.label: Tally() for target in targets}
        self._max_first_token_seconds = max_first_token_seconds
        self._failures = {label: Failures() for label in self._tallies}
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()

    @contextmanager
    def request(
        self,
        target: Target,
        attempt: Attempt = FIRST_ATTEMPT,
        *,
        session: bytes | None = None,
        formatted: bool = False,
    ) -> Generator[TrafficObserver]:
        """Count a request, and whether the server behind the gateway failed it or let it wait.

        Args:
            target: the model that answers.
            attempt: a retry is not counted.
            session: the session that it belongs to, by :func:`session_digest`; None if it has none.
            formatted: the request demands a format.
        """
        if session:  # now, for a client may report the outcome before the end of its last response is seen here
            self._remember(session, target)
        failures = self._failures[target.label]
        is_retry = failures.is_retry(attempt)
        observer = TrafficObserver(Tally() if is_retry else self._tallies[target.label], formatted=formatted)
        timer = asyncio.get_running_loop().call_later(self._max_first_token_seconds, observer.mark_slow)
        try:
            yield observer
        except ApiError as error:
            observer.reject(error.status)
            raise
        except (aiohttp.ClientError, TimeoutError):
            observer.fail()
            raise
        except ClientGone:
            observer.leave()
            raise
        finally:
            timer.cancel()
            if observer.end() and not is_retry:
                failures.add(attempt)

    def _remember(self, session: bytes, target: Target) -> None:
        entry = self._sessions.setdefault(session, _Session(target))
        entry.target = target
        self._sessions.move_to_end(session)
        if len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)

    def count_outcome(self, session: bytes, *, success: bool) -> Target | None:
        """Count the outcome of a session for the target that answered it last.

        None if it counts nowhere: the session sent no request, or its client reported an outcome before.
        """
        entry = self._sessions.get(session)
        if entry is None or entry.has_outcome:
            return None
        entry.has_outcome = True
        self._tallies[entry.target.label].add(outcomes=1, successes=int(success))
        return entry.target

    def snapshot(self) -> Mapping[str, Mapping[str, int]]:
        """Return the counts by the label of the target, as the operator reads them."""
        return {label: tally.counts.to_document() for label, tally in self._tallies.items()}
