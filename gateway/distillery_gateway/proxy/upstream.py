"""The state of a vLLM: its models, and its progress with its requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import aiohttp

from distillery_gateway.observers import ResponseObserver

_log = logging.getLogger(__name__)

_COUNTERS = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:iteration_tokens_total_count")
_TIMEOUT = aiohttp.ClientTimeout(total=5)


async def fetch_models(session: aiohttp.ClientSession, upstream: str) -> Mapping[str, str | None]:
    """Return the models that a vLLM serves now, with their parents; adapters have one. Raises aiohttp.ClientError."""
    return {model["id"]: model.get("parent") for model in await _models(session, upstream)}


async def fetch_models_and_context(session: aiohttp.ClientSession, upstream: str) -> tuple[frozenset[str], int | None]:
    """Return the models that a vLLM serves now, and how many tokens a prompt and its answer may have together.

    Raises aiohttp.ClientError. The context is None if the server does not report it.
    """
    models = await _models(session, upstream)
    contexts = [length for model in models if isinstance(length := model.get("max_model_len"), int)]
    return frozenset(model["id"] for model in models), max(contexts, default=None)


async def _models(session: aiohttp.ClientSession, upstream: str) -> Sequence[Mapping[str, Any]]:
    async with session.get(f"{upstream}/v1/models", timeout=_TIMEOUT) as answer:
        answer.raise_for_status()
        return (await answer.json())["data"]


class Progress(ResponseObserver):
    """The progress of a vLLM with its requests.

    A server whose engine hangs answers probes as before, for its front end does. It hangs if for a while no request got
    any response, its counters of tokens did not change, and it did not answer a request of one token either.

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
        self._alive_at = clock()
        self._counted: float | None = None
        self.hangs = False

    @contextmanager
    def request(self) -> Generator[None]:
        """Count a request while it runs on the server."""
        if self._running == 0 and not self.hangs:
            self.mark_alive()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def chunk(self, data: bytes) -> None:
        """Note that a part of a response came."""
        self.mark_alive()

    def error(self) -> None:
        """Note that the server answered, if with an error."""
        self.mark_alive()

    def mark_alive(self) -> None:
        """Note a sign of progress."""
        self._alive_at = self._clock()

    async def watch(self) -> None:
        """Watch for a server that hangs, and for its recovery, until cancelled."""
        while True:
            await asyncio.sleep(min(10.0, self._patience / 4))
            if not self._running and not self.hangs:
                continue
            if await self._has_progressed():
                self.mark_alive()
            silent = self._clock() - self._alive_at
            # a request takes the server's time, so it is sent only if something is wrong
            if silent > self._patience / 2 and await self._answers():
                self.mark_alive()
            hangs = self._clock() - self._alive_at > self._patience and (self._running > 0 or self.hangs)
            if hangs != self.hangs:
                _log.warning("vLLM %s", f"made no progress for {silent:.0f} s" if hangs else "makes progress again")
            self.hangs = hangs

    async def _has_progressed(self) -> bool:
        """Return whether the server counted tokens since the last call."""
        try:
            async with self._session.get(f"{self._upstream}/metrics", timeout=_TIMEOUT) as answer:
                lines = (await answer.text()).splitlines() if answer.status == 200 else []
            values = [float(line.rpartition(" ")[2]) for line in lines if line.startswith(_COUNTERS)]
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False
        before, self._counted = self._counted, sum(values) if values else None
        return None not in (before, self._counted) and before != self._counted

    async def _answers(self) -> bool:
        """Return whether the server answers a request of one token, or is gone and so does not hang."""
        try:
            parents = await fetch_models(self._session, self._upstream)
            model = next(name for name, parent in parents.items() if parent is None)
            body = {"model": model, "prompt": "a", "max_tokens": 1}
            timeout = aiohttp.ClientTimeout(total=self._patience / 4)
            async with self._session.post(f"{self._upstream}/v1/completions", json=body, timeout=timeout) as answer:
                return answer.status < 500
        except aiohttp.ClientConnectorError:
            return True
        except (aiohttp.ClientError, TimeoutError, ValueError, StopIteration):
            return False
