"""The traffic counts of each target since its routing document was applied: evidence for the operator."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import aiohttp

from distillery_gateway.errors import Refusal
from distillery_gateway.proxy.attempts import Attempt, Failures
from distillery_gateway.proxy.request_context import ClientGone
from distillery_gateway.routing.document import MAX_FIRST_TOKEN_SECONDS, Target

_MAX_SESSIONS = 50_000  # remembered, so that an outcome counts once, and only for a session that sent requests
_FAILURE = b'data: {"error"'  # an event of vLLM's: in the words of an answer the quotes would be escaped
_SERVERS_FAULT = frozenset([401, 403, 408, 429])  # this gateway knows the key, has the body, and keeps the limits
_PATIENCE_SECONDS = 1.0  # a client that leaves earlier changed its mind

FIRST_ATTEMPT = Attempt(0)
"""Of a request that is no retry."""


@dataclass(slots=True)
class Counts:
    """The counts of a target.

    Attributes:
        requests: that ended, and those that wait for too long. Retries and invalid requests are not counted.
        errors: requests that the server behind the gateway failed, or had no room for.
        outcomes: sessions whose clients reported an outcome.
        successes: those that succeeded.
        slow: requests without a first token after the time that the document allows, whether they end or not; and those
            whose client had some patience and left without one.
    """

    requests: int = 0
    errors: int = 0
    outcomes: int = 0
    successes: int = 0
    slow: int = 0


class Answer:
    """An observer of an answer while it passes.

    Args:
        counts: where it counts.
        formatted: the request demands a format, which the model may be unable to write.

    Attributes:
        begun: something of it came.
    """

    def __init__(self, counts: Counts, *, formatted: bool = False) -> None:
        self._counts = counts
        self._formatted = formatted
        self._started = time.monotonic()
        self.begun = self._counted = self._failed = self._excused = False
        self._tail = b""  # of the chunk before: an event may be cut anywhere

    def see(self, chunk: bytes) -> None:
        """Note that more of the answer came. Headers are no sign: a server that hangs has sent them too."""
        self.begun = True
        if _FAILURE in self._tail + chunk:
            self._failed, self._excused = not self._formatted, self._formatted
        self._tail = (self._tail + chunk[-len(_FAILURE) :])[1 - len(_FAILURE) :]

    def be_late(self) -> None:
        """Count the answer as slow if the time for the first token is over and nothing came."""
        if not self.begun:
            self._count(slow=True)

    def refuse(self, status: int) -> None:
        """Note that an error answers the request."""
        self._failed = status >= 500 or status in _SERVERS_FAULT
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
        """Count the answer. Return whether it counts as failed."""
        if self._excused:
            return False
        if not self._counted:
            self._count()
        self._counts.errors += self._failed
        return self._failed

    def _count(self, *, slow: bool = False) -> None:
        self._counted = True
        self._counts.requests += 1
        self._counts.slow += slow


@dataclass(slots=True)
class _Session:
    """A session that sent requests: to whom at last, and whether its client said how it ended."""

    target: Target
    told: bool = False


def session_id(key: str, alias: str, name: str) -> bytes:
    """Return the digest by which a session is remembered: a client of another key can't speak for it."""
    return hashlib.sha256(f"{key}\0{alias}\0{name}".encode("utf-8", "surrogatepass")).digest()


class Live:
    """The counts of one table; the next table gets another.

    Args:
        targets: of the table: each counts from 0.
        max_first_token_seconds: a request that waits longer for its first token is slow.
    """

    def __init__(
        self, targets: Iterable[Target] = (), max_first_token_seconds: float = MAX_FIRST_TOKEN_SECONDS
    ) -> None:
        self._counts = {target.label: Counts() for target in targets}
        self._max_first_token_seconds = max_first_token_seconds
        self._failures = {label: Failures() for label in self._counts}
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()

    @contextmanager
    def request(
        self,
        target: Target,
        attempt: Attempt = FIRST_ATTEMPT,
        *,
        session: bytes | None = None,
        formatted: bool = False,
    ) -> Generator[Answer]:
        """Count a request, and whether what stands behind the gateway failed it or let it wait.

        Args:
            target: who answers.
            attempt: a retry is not counted.
            session: that it belongs to, by :func:`session_id`; None if nobody may say how it ended.
            formatted: the request demands a format.
        """
        if session:  # now, for a client may say how it ended before the end of its last answer is seen here
            self._remember(session, target)
        failures = self._failures[target.label]
        is_retry = failures.is_retry(attempt)
        answer = Answer(Counts() if is_retry else self._counts[target.label], formatted=formatted)
        timer = asyncio.get_running_loop().call_later(self._max_first_token_seconds, answer.be_late)
        try:
            yield answer
        except Refusal as refusal:
            answer.refuse(refusal.status)
            raise
        except (aiohttp.ClientError, TimeoutError):
            answer.fail()
            raise
        except ClientGone:
            answer.leave()
            raise
        finally:
            timer.cancel()
            if answer.end() and not is_retry:
                failures.add(attempt)

    def _remember(self, session: bytes, target: Target) -> None:
        known = self._sessions.setdefault(session, _Session(target))
        known.target = target
        self._sessions.move_to_end(session)
        if len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)

    def outcome(self, session: bytes, *, success: bool) -> Target | None:
        """Count how a session ended for the target that answered it last.

        None if it counts nowhere: it sent no request, or its client said so before.
        """
        known = self._sessions.get(session)
        if known is None or known.told:
            return None
        known.told = True
        counts = self._counts[known.target.label]
        counts.outcomes += 1
        counts.successes += success
        return known.target

    def told(self) -> Mapping[str, Mapping[str, int]]:
        """Return the counts by the label of the target, as the operator reads them."""
        return {label: asdict(counts) for label, counts in self._counts.items()}
