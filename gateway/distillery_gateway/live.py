"""What became of the requests and sessions of each target since its table was taken over: evidence for the operator."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import aiohttp

from distillery_gateway.desired import Target
from distillery_gateway.errors import Refusal
from distillery_gateway.exchange import ClientGone

_MAX_SESSIONS = 50_000  # remembered, so that an outcome counts once, and only for a session that sent requests
_FAILURE = b'data: {"error"'  # an event of vLLM's: in the words of an answer the quotes would be escaped


@dataclass(slots=True)
class Counts:
    """Of a target.

    Attributes:
        requests: that ended. One whose client soon left without a word shows nothing, and is left out.
        errors: those that the server behind failed, or did not begin to answer for 30 s until the client left. What
            clients did wrong is none.
        outcomes: sessions whose clients told how they ended.
        successes: those that succeeded.
    """

    requests: int = 0
    errors: int = 0
    outcomes: int = 0
    successes: int = 0


@dataclass(slots=True)
class Answer:
    """What is seen of an answer while it passes.

    Attributes:
        begun: some of its words came. Its headers are no sign: a server that hangs has sent them too.
        failed: the server said in its stream that it failed.
    """

    begun: bool = False
    failed: bool = False
    _end: bytes = b""  # of the chunk before: an event may be cut anywhere

    def see(self, chunk: bytes) -> None:
        """Some more came."""
        self.begun = True
        self.failed = self.failed or _FAILURE in self._end + chunk
        self._end = (self._end + chunk[-len(_FAILURE) :])[1 - len(_FAILURE) :]


@dataclass(slots=True)
class _Session:
    """A session that sent requests: to whom at last, and whether its client said how it ended."""

    target: Target
    told: bool = False


def session_id(key: str, alias: str, name: str) -> bytes:
    """A session as it is remembered: a client of another key can't speak for it."""
    return hashlib.sha256(f"{key}\0{alias}\0{name}".encode("utf-8", "surrogatepass")).digest()


class Live:
    """The counts of one table; the next table gets another.

    Args:
        targets: of the table: each counts from 0.
        patience: seconds without a word after which a client that leaves was failed.
    """

    def __init__(self, targets: Iterable[Target] = (), *, patience: float = 30.0) -> None:
        self._patience = patience
        self._counts = {target.label: Counts() for target in targets}
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()

    @contextmanager
    def request(self, target: Target, *, session: bytes | None = None) -> Generator[Answer]:
        """Count a request when it ended, and whether what stands behind the gateway failed it.

        Args:
            target: who answers.
            session: that it belongs to, by :func:`session_id`; None if nobody may say how it ended.
        """
        if session:  # now, for a client may say how it ended before the end of its last answer is seen here
            self._remember(session, target)
        answer, ended, began = Answer(), True, time.monotonic()
        try:
            yield answer
        except Refusal as refusal:
            answer.failed = refusal.status >= 500
            raise
        except (aiohttp.ClientError, TimeoutError):
            answer.failed = True
            raise
        except ClientGone:
            late = time.monotonic() - began >= self._patience
            ended, answer.failed = answer.begun or late, answer.failed or not answer.begun
            raise
        finally:
            counts = self._counts[target.label]
            counts.requests += ended
            counts.errors += ended and answer.failed

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
        """The counts by the label of the target, as the operator reads them."""
        return {label: asdict(counts) for label, counts in self._counts.items()}
