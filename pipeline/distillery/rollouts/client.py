"""A client for OpenAI-compatible chat completions: small, quick, and stubborn about servers that misbehave.

The stock client of the ``openai`` package costs 7 to 25 times the CPU time per request at a concurrency of hundreds,
which is what an agent's loop has; see docs/adr.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from distillery.agents import Message

_log = logging.getLogger(__name__)


class ServerUnavailable(Exception):
    """The server failed again and again. Another attempt at the stage may succeed."""


class RequestRefused(Exception):
    """The server understood and said no: wrong model, key or parameter. Trying again is pointless."""


class PromptTooLong(Exception):
    """The prompt does not fit the model's context."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A reply and its cost. ``cached_tokens`` is None where the server does not report it; ``seconds`` is wall time."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None
    seconds: float


class ChatClient:
    """Chat completions of one model of one server; use as an async context manager.

    Args:
        base_url: up to and including ``/v1``.
        model: the model's name there.
        api_key: sent as a bearer token; never logged.
        timeout: seconds that one request may take.
        tries: requests after which the server counts as unavailable.
        backoff: seconds before the second try; doubles each time, with full jitter.
    """

    def __init__(
        self, base_url: str, model: str, *, api_key: str = "", timeout: float, tries: int = 8, backoff: float = 0.5
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._tries = tries
        self._backoff = backoff

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=self._timeout, connector=aiohttp.TCPConnector(limit=0)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def context_length(self) -> int | None:
        """Tokens of the model's context where the server tells (vLLM does), else None."""
        status, answer, _ = await self._send("GET", "/models", None)
        if status >= 400 or not isinstance(answer, dict):
            return None
        served = {entry.get("id"): entry for entry in answer.get("data", []) if isinstance(entry, dict)}
        if served and self.model not in served:
            raise RequestRefused(
                f"{self.base_url} does not serve {self.model}; it serves {', '.join(map(str, served))}"
            )
        length = served.get(self.model, {}).get("max_model_len")
        return length if isinstance(length, int) else None

    async def complete(
        self, messages: Sequence[Message], *, temperature: float, max_tokens: int, **parameters: Any
    ) -> Completion:
        """The model's reply to a chat.

        Raises:
            PromptTooLong: the chat does not fit.
            RequestRefused: the server refuses the request for another reason.
            ServerUnavailable: no answer that could be used came in any of the tries.
        """
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": temperature,
            "max_tokens": max_tokens,
            **parameters,
        }
        started = time.monotonic()
        status, answer, problem = await self._send("POST", "/chat/completions", body)
        if status >= 400:
            text = json.dumps(answer)[:300]
            if status == 413 or (status == 400 and "context" in text and "length" in text):
                raise PromptTooLong(text)
            raise RequestRefused(f"{self.base_url} answered {status}: {text}")
        completion = _read(answer, time.monotonic() - started)
        if completion is None:
            raise ServerUnavailable(problem)
        return completion

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any, str]:
        """Status, JSON answer and the last problem; tries again on what may pass."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        problem = ""
        for attempt in range(self._tries):
            if attempt:
                delay = random.uniform(0, self._backoff * 2 ** (attempt - 1))  # noqa: S311 - jitter, not a secret
                _log.warning("%s; trying again in %.1f s", problem, delay)
                await asyncio.sleep(delay)
            try:
                async with self._session.request(method, self.base_url + path, data=data, headers=headers) as response:
                    raw = await response.read()
            except TimeoutError:
                problem = f"{self.base_url} did not answer within {self._timeout.total:.0f} s"
                continue
            except aiohttp.ClientError as error:
                problem = f"{self.base_url} can't be reached: {error}"
                continue
            if response.status in (408, 409, 429) or response.status >= 500:
                problem = f"{self.base_url} answered {response.status}: {raw[:200].decode(errors='replace')}"
                continue
            try:
                answer = json.loads(raw)
            except ValueError:
                problem = f"{self.base_url} answered with no JSON: {raw[:200].decode(errors='replace')!r}"
                if response.status >= 400:
                    return response.status, problem, problem
                continue
            if response.status < 400 and method == "POST" and _read(answer, 0.0) is None:
                problem = f"{self.base_url} answered with no chat completion: {raw[:200].decode(errors='replace')!r}"
                continue
            return response.status, answer, problem
        raise ServerUnavailable(f"{problem} ({self._tries} tries)")


def _read(answer: Any, seconds: float) -> Completion | None:
    """A chat completion, or None where the answer is none."""
    try:
        text = (answer["choices"][0]["message"]["content"] or "").replace("\0", "")
        usage = answer["usage"]
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        tokens = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    return Completion(text, *tokens, cached, seconds) if isinstance(text, str) else None
