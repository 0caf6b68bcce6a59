"""A client for OpenAI-compatible chat completions: small, quick, and stubborn about servers that misbehave.

The stock client of the ``openai`` package costs 7 to 25 times the CPU time per request at a concurrency of hundreds,
which is what an agent's loop has; see docs/adr.

One bad request costs one prompt, and a server that is away costs a wait:

* :class:`PromptRefused` is about one prompt. Its episode ends; all others continue.
* :class:`RequestRefused` is about every request. The stage fails with the reason.
* A server that is away, busy or broken is waited for; :class:`ServerUnavailable` comes when patience ends.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from distillery.core.contracts.messages import Message
from distillery.llm.refusals import Cause, Refusal, is_too_long, parse_refusal, suggest_parameter_fix
from distillery.llm.throttle import ServerUnavailable, Throttle, parse_retry_after

__all__ = [
    "ChatClient",
    "Completion",
    "ParameterRefused",
    "PromptRefused",
    "PromptTooLong",
    "RequestRefused",
    "RequestSettings",
    "ServerUnavailable",
]

PATIENCE = 1800.0
"""Seconds for which a server may be away: as long as a model server may take to start."""

_MAX_BACKOFF = 15.0

_MAX_REFUSALS = 30
"""Refusals in a row, with no request answered between them, that stand for all. A filter that refuses every second
prompt would do that once in a billion times; a parameter that a server refuses in unknown words does it at once."""

_MAX_FAILURES = 8
"""Failures of one request while the server answers others: then the request is to blame, not the server."""


class RequestRefused(Exception):
    """The server refuses every request: wrong model, key or parameter. Trying again is pointless."""


class ParameterRefused(RequestRefused):
    """The server does not take a parameter that every request has; ``parameter`` is its name."""

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class PromptRefused(Exception):
    """The server refuses this prompt and may take others."""


class PromptTooLong(PromptRefused):
    """The prompt does not fit the model's context."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A reply and its cost.

    Attributes:
        text: the reply.
        prompt_tokens: as the server counts them.
        completion_tokens: as the server counts them, thoughts that it keeps to itself included.
        cached_tokens: None where the server does not report it.
        seconds: wall time.
        finish_reason: why the reply ended, in the server's word; empty where it gives none.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None
    seconds: float
    finish_reason: str = ""


@dataclass(frozen=True, slots=True)
class _Failure:
    """A request that got no usable answer.

    Attributes:
        problem: what happened.
        server: the server is to blame (it is away or busy), not possibly this request.
        busy: it refused the request for too many of them.
        retry_after: seconds that it asked for.
    """

    problem: str
    server: bool = False
    busy: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSettings:
    """The settings of a client's requests.

    Attributes:
        timeout: seconds that one request may take.
        api_key: sent as a bearer token; never logged.
        parameters: merged into each request; None leaves a parameter out.
        field: the field of the specification that names the server, for messages.
        patience: seconds for which the server may be away.
        backoff: seconds before the second try; doubles each time up to 15, with full jitter.
    """

    timeout: float
    api_key: str = ""
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    field: str = ""
    patience: float = PATIENCE
    backoff: float = 0.5


class ChatClient:
    """Chat completions of one model of one server; use as an async context manager.

    Args:
        base_url: up to and including ``/v1``.
        model: the model's name there.
        settings: of its requests.
    """

    def __init__(self, base_url: str, model: str, settings: RequestSettings) -> None:
        self.base_url = base_url.rstrip("/")
        self.model = model
        self._settings = settings
        self._throttle = Throttle(self.base_url, patience=settings.patience, hold=2 * settings.backoff)
        self._refused = (0, 0)  # status, how many in a row

    async def __aenter__(self) -> Self:
        key = self._settings.api_key
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout),
            connector=aiohttp.TCPConnector(limit=0),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    @property
    def waiting(self) -> bool:
        """True if requests wait for the server now."""
        return self._throttle.waiting

    async def context_length(self) -> int | None:
        """Return the tokens of the model's context where the server lists them (vLLM does), else None.

        A model that is not listed may be served all the same: proxies and deployments list others, or none.
        """
        status, answer = await self._send("GET", "/models", None)
        if status >= 400 or not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            return None
        served = {entry.get("id"): entry for entry in answer["data"] if isinstance(entry, dict)}
        length = served.get(self.model, {}).get("max_model_len")
        return length if isinstance(length, int) else None

    async def complete(
        self, messages: Sequence[Message], *, temperature: float, max_tokens: int, **parameters: Any
    ) -> Completion:
        """Return the model's reply to a chat.

        Raises:
            PromptTooLong: the chat does not fit.
            PromptRefused: the server refuses this chat for another reason.
            RequestRefused: the server refuses every request.
            ServerUnavailable: no request was answered for as long as patience allows.
        """
        requested = {"temperature": temperature, "max_tokens": max_tokens, **parameters, **self._settings.parameters}
        sent = {name: value for name, value in requested.items() if value is not None}
        started = time.monotonic()
        status, answer = await self._send(
            "POST", "/chat/completions", {"model": self.model, "messages": messages, **sent}
        )
        if status >= 400:
            raise self._count_refusal(status, parse_refusal(status, answer, sent), sent)
        self._refused = (0, 0)
        completion = _parse_completion(answer, time.monotonic() - started)
        assert completion is not None, "else it would have been tried again"
        return completion

    def _count_refusal(self, status: int, refusal: Refusal, sent: Mapping[str, Any]) -> Exception:
        """Return the exception for a refusal; :data:`_MAX_REFUSALS` of prompts in a row are one of every request."""
        problem = f"{self.base_url} answered {status}: {refusal.text}"
        match refusal.cause:
            case Cause.LENGTH:
                return PromptTooLong(refusal.text)
            case Cause.REQUEST:
                return RequestRefused(problem)
            case Cause.PARAMETER:
                source = self._settings.field
                fixable = source and refusal.parameter in sent
                fix = f"; {suggest_parameter_fix(source, refusal.parameter, sent)}" if fixable else ""
                return ParameterRefused(problem + fix, refusal.parameter)
            case Cause.PROMPT:
                last, count = self._refused
                self._refused = (status, count + 1 if status == last else 1)
                if self._refused[1] >= _MAX_REFUSALS:
                    return RequestRefused(f"{_MAX_REFUSALS} requests in a row were refused; the last: {problem}")
                return PromptRefused(problem)

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, Any]:
        """Return status and answer, parsed if it is JSON; wait for a server that is away, and try again."""
        data = None if body is None else json.dumps(body).encode()
        failures, delay, answers = 0, self._settings.backoff, self._throttle.answers
        while True:
            async with self._throttle.slot():
                result = await self._try(method, path, data)
                if not isinstance(result, _Failure):
                    self._throttle.record_answer()
                    return result
                failures += not result.server
                if failures >= _MAX_FAILURES and self._throttle.answers - answers >= _MAX_FAILURES:
                    raise PromptRefused(f"{result.problem} ({failures} times, while others were answered)")
                self._throttle.record_failure(result.problem, busy=result.busy, retry_after=result.retry_after)
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311 - jitter, not a secret
            delay = min(_MAX_BACKOFF, 2 * delay)

    async def _try(self, method: str, path: str, data: bytes | None) -> tuple[int, Any] | _Failure:
        """Send a request once; return status and answer, or a failure if another try may help."""
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.request(method, self.base_url + path, data=data, headers=headers) as response:
                raw = await response.read()
        except TimeoutError:
            return _Failure(f"{self.base_url} did not answer within {self._settings.timeout:.0f} s")
        except aiohttp.ClientError as error:
            return _Failure(f"{self.base_url} can't be reached: {error}", server=True)
        text = raw[:200].decode(errors="replace")
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        status = _find_status(response.status, answer)
        if status >= 400 and status != 413 and is_too_long(status, answer or text):
            return status, answer or text  # llama.cpp sent 500, OpenAI sends 429 to what exceeds an account's limit
        if status in (408, 409, 429) or status >= 500:
            return _Failure(
                f"{self.base_url} answered {status}: {text}",
                server=status in (429, 502, 503, 504, 529),
                busy=status == 429,
                retry_after=parse_retry_after(response.headers.get("Retry-After")),
            )
        if status >= 400:
            return status, text if answer is None else answer
        if answer is None:
            return _Failure(f"{self.base_url} answered with no JSON: {text!r}")
        if method == "POST" and _parse_completion(answer, 0.0) is None:
            return _Failure(f"{self.base_url} answered with no chat completion: {text!r}")
        return status, answer


def _find_status(status: int, answer: Any) -> int:
    """Return the status of a response; some proxies answer 200 and put a provider's status into the error."""
    error = answer.get("error") if isinstance(answer, dict) and "choices" not in answer else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if status < 400 and isinstance(code, int) and 400 <= code < 600 else status


def _parse_completion(answer: Any, seconds: float) -> Completion | None:
    """Return a chat completion; None if the answer is malformed."""
    try:
        choice, usage = answer["choices"][0], answer["usage"]
        text = (choice["message"].get("content") or "").replace("\0", "")
        reason = choice.get("finish_reason")
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        tokens = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    if not isinstance(text, str):
        return None
    return Completion(text, *tokens, cached, seconds, reason.replace("\0", "") if isinstance(reason, str) else "")
