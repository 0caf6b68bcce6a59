"""The health of a vLLM: its models, and its progress with the requests that it has."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import aiohttp

_log = logging.getLogger(__name__)

_COUNTERS = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:iteration_tokens_total_count")
_TIMEOUT = aiohttp.ClientTimeout(total=5)


async def served(session: aiohttp.ClientSession, upstream: str) -> Mapping[str, str | None]:
    """Return the models that a vLLM serves now, with their parents; adapters have one. Raises aiohttp.ClientError."""
    return {model["id"]: model.get("parent") for model in await _models(session, upstream)}


async def served_with_context(session: aiohttp.ClientSession, upstream: str) -> tuple[frozenset[str], int | None]:
    """Return the models that a vLLM serves now, and how many tokens a prompt and its answer may have together.

    Raises aiohttp.ClientError. The context is None where the server does not say.
    """
    models = await _models(session, upstream)
    contexts = [length for model in models if isinstance(length := model.get("max_model_len"), int)]
    return frozenset(model["id"] for model in models), max(contexts, default=None)


async def _models(session: aiohttp.ClientSession, upstream: str) -> Sequence[Mapping[str, Any]]:
    async with session.get(f"{upstream}/v1/models", timeout=_TIMEOUT) as answer:
        answer.raise_for_status()
        return (await answer.json())["data"]


class Progress:
    """The progress of a vLLM with the requests that it has.

    A server whose engine hangs answers probes as before, for they ask its front end. It hangs if for a while nothing
    came of any request, its counters of tokens stood still, and it did not answer a request of one token either.

    Args:
        session: to the server.
        upstream: its URL.
        patience: seconds without a sign of progress.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        upstream: str,
        *,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._upstream = upstream
        self._patience = patience
        self._clock = clock
        self._running = 0
        self._heard = clock()
        self._counted: float | None = None
        self.hangs = False

    @contextmanager
    def request(self) -> Generator[None]:
        """Count a request while it runs on the server."""
        if self._running == 0 and not self.hangs:
            self.heard()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def heard(self) -> None:
        """Note that something came of a request."""
        self._heard = self._clock()

    async def watch(self) -> None:
        """Look for a server that hangs, and for its recovery, until cancelled."""
        while True:
            await asyncio.sleep(min(10.0, self._patience / 4))
            if not self._running and not self.hangs:
                continue
            if await self._advanced():
                self.heard()
            silent = self._clock() - self._heard
            # a question takes the server's time, so it is asked only where something is wrong
            if silent > self._patience / 2 and await self._answers():
                self.heard()
            hangs = self._clock() - self._heard > self._patience and (self._running > 0 or self.hangs)
            if hangs != self.hangs:
                _log.warning("vLLM %s", f"made no progress for {silent:.0f} s" if hangs else "makes progress again")
            self.hangs = hangs

    async def _advanced(self) -> bool:
        """Whether the server counted tokens since the last look."""
        try:
            async with self._session.get(f"{self._upstream}/metrics", timeout=_TIMEOUT) as answer:
                lines = (await answer.text()).splitlines() if answer.status == 200 else []
            values = [float(line.rpartition(" ")[2]) for line in lines if line.startswith(_COUNTERS)]
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False
        before, self._counted = self._counted, sum(values) if values else None
        return None not in (before, self._counted) and before != self._counted

    async def _answers(self) -> bool:
        """Whether the server answers a request of one token, or is gone and so does not hang."""
        try:
            parents = await served(self._session, self._upstream)
            model = next(name for name, parent in parents.items() if parent is None)
            body = {"model": model, "prompt": "a", "max_tokens": 1}
            timeout = aiohttp.ClientTimeout(total=self._patience / 4)
            async with self._session.post(f"{self._upstream}/v1/completions", json=body, timeout=timeout) as answer:
                return answer.status < 500
        except aiohttp.ClientConnectorError:
            return True
        except (aiohttp.ClientError, TimeoutError, ValueError, StopIteration):
            return False
