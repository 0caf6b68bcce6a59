"""What became of the requests and sessions of each target since its table was taken over: evidence for the operator."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import aiohttp

from distillery_gateway.desired import Target
from distillery_gateway.errors import Refusal
from distillery_gateway.exchange import ClientGone

_MOST_SESSIONS = 10_000  # remembered, so that an outcome that is sent twice counts once
_FAILURE = b'data: {"error"'  # an event of vLLM's: in the words of an answer the quotes would be escaped


@dataclass(slots=True)
class Counts:
    """Of a target.

    Attributes:
        requests: that ended. One whose client left before the first words shows nothing, and is left out.
        errors: those that the server behind failed. What clients did wrong, or did not wait for, is none.
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

    def see(self, chunk: bytes) -> None:
        """Some more came."""
        self.begun = True
        self.failed = self.failed or _FAILURE in chunk


class Live:
    """The counts of one table; the next table gets another.

    Args:
        targets: of the table: each counts from 0.
    """

    def __init__(self, targets: Iterable[Target] = ()) -> None:
        self._counts = {target.label: Counts() for target in targets}
        self._sessions: dict[bytes, None] = {}

    @contextmanager
    def request(self, target: Target) -> Generator[Answer]:
        """Count a request when it ended, and whether what stands behind the gateway failed it."""
        answer, ended = Answer(), True
        try:
            yield answer
        except Refusal as refusal:
            answer.failed = refusal.status >= 500
            raise
        except (aiohttp.ClientError, TimeoutError):
            answer.failed = True
            raise
        except ClientGone:
            ended = answer.begun
            raise
        finally:
            counts = self._counts[target.label]
            counts.requests += ended
            counts.errors += ended and answer.failed

    def outcome(self, target: Target, alias: str, session: str, *, success: bool) -> bool:
        """Count how a session ended; False if it was counted already."""
        seen = hashlib.sha256(f"{alias}\0{session}".encode()).digest()
        if seen in self._sessions:
            return False
        self._sessions[seen] = None
        if len(self._sessions) > _MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        counts = self._counts[target.label]
        counts.outcomes += 1
        counts.successes += success
        return True

    def told(self) -> Mapping[str, Mapping[str, int]]:
        """The counts by the label of the target, as the operator reads them."""
        return {label: asdict(counts) for label, counts in self._counts.items()}
