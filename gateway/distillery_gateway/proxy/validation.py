"""The requests that models accept: two endpoints, and the parameters that vLLM takes without harm.

Unknown parameters are refused, for vLLM knows some that read files, run forever or end the process.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from distillery_gateway.auth.rate_limits import Limits
from distillery_gateway.errors import ApiError

_SHARED = frozenset(
    [
        "model", "stream", "stream_options", "temperature", "top_p", "n", "stop", "max_tokens", "max_completion_tokens",
        "presence_penalty", "frequency_penalty", "logit_bias", "seed", "user", "logprobs", "metadata", "store",
    ]
)  # fmt: skip
CHAT = "/v1/chat/completions"
_ENDPOINTS = {
    CHAT: _SHARED
    | {
        "messages",
        "top_logprobs",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
    },
    "/v1/completions": _SHARED | {"prompt", "echo", "suffix"},
}
ENDPOINTS = frozenset(_ENDPOINTS)

_MAX_LOGPROBS = 20
_MAX_PARTS = 300_000
"""The most lists, objects and members of a body, counted by their signs. A body of brackets takes 25 times its size as
objects. A sign in a text counts too, but a text with so many has more tokens than a model takes."""
_COMPLETION_TOKENS = 16
"""OpenAI's default for completions."""


def parse(
    path: str, raw: bytes, limits: Limits, *, denied: Collection[str] = (), context: int | None = None
) -> dict[str, Any]:
    """Return the checked body of a request, with a limit of tokens if it names none. Raises :class:`ApiError`.

    Args:
        path: the endpoint.
        raw: the body.
        limits: the gateway's.
        denied: parameters that would end vLLM.
        context: tokens that vLLM takes at most; None if unknown.
    """
    body = parse_object(raw)
    required = "messages" if path == CHAT else "prompt"
    if required not in body:
        raise ApiError(400, "missing_parameter", f"The parameter {required} is missing.", required)
    for name in body:
        if name in denied:
            raise ApiError(400, "unsupported_parameter", f"The parameter {name} is not supported here.", name)
        if name not in _ENDPOINTS[path]:
            raise ApiError(400, "unknown_parameter", f"The parameter {name[:64]!r} is not known here.", name[:64])
    _check_number(body, "n", limits.max_choices)
    if path == CHAT:
        _check_messages(body["messages"])
    else:
        _check_prompts(body["prompt"], limits.max_choices // (body.get("n") or 1))
    for name in ("max_tokens", "max_completion_tokens"):
        _check_number(body, name, limits.max_tokens)
    for name in ("logprobs", "top_logprobs"):
        if not isinstance(body.get(name), bool):
            _check_number(body, name, _MAX_LOGPROBS, minimum=0)
    _set_max_tokens(body, path, min(limits.max_tokens, context or limits.max_tokens))
    return body


def demands_format(body: Mapping[str, Any]) -> bool:
    """Return whether vLLM must hold the model to a grammar, which may leave it no token to write."""
    response_format, choice = body.get("response_format"), body.get("tool_choice")
    formatted = isinstance(response_format, dict) and response_format.get("type") not in (None, "text")
    return formatted or isinstance(choice, dict) or choice == "required"


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ApiError(400, "invalid_parameter", "messages is a list of objects.", "messages")


def _check_prompts(prompt: Any, max_prompts: int) -> None:
    """Check the number of prompts: each prompt of a list is answered, as often as there are choices."""
    if isinstance(prompt, str):
        return
    kinds = {type(part) for part in prompt} if isinstance(prompt, list) else set()
    if kinds == {int}:
        return  # one prompt, as tokens
    if kinds != {str} and not (kinds == {list} and all(type(token) is int for part in prompt for token in part)):
        message = "prompt is a string, a list of strings, a list of tokens, or a list of those."
        raise ApiError(400, "invalid_parameter", message, "prompt")
    if len(prompt) > max_prompts:
        raise ApiError(
            400, "invalid_parameter", f"prompt has at most {max_prompts} prompts, with so many choices each.", "prompt"
        )


def _set_max_tokens(body: dict[str, Any], path: str, limit: int) -> None:
    """Limit a request that names no number: vLLM would generate a chat to the end of its context."""
    if path != CHAT:
        if body.get("max_tokens") is None:
            body["max_tokens"] = min(limit, _COMPLETION_TOKENS)
    elif body.get("max_tokens") is None and body.get("max_completion_tokens") is None:
        body["max_completion_tokens"] = limit


def parse_object(raw: bytes) -> dict[str, Any]:
    """Return a body that is an object and names a model. Raises :class:`ApiError`."""
    if sum(map(raw.count, (b",", b"[", b"{"))) > _MAX_PARTS:
        message = f"A body has at most {_MAX_PARTS} lists, objects and members."
        raise ApiError(413, "body_too_complex", message)
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "invalid_json", "The body is not JSON.") from error
    if not isinstance(body, dict):
        raise ApiError(400, "invalid_json", "The body is not a JSON object.")
    if not isinstance(body.get("model"), str):
        raise ApiError(400, "missing_parameter", "Name the model as a string.", "model")
    return body


def conversation_start(body: dict[str, Any]) -> str:
    """Return the messages up to the first of the user, as JSON: all requests of a conversation begin with them.

    Empty if there is none.
    """
    messages: list[dict[str, Any]] = body.get("messages", [])
    first = next((index for index, message in enumerate(messages) if message.get("role") == "user"), None)
    return "" if first is None else json.dumps(messages[: first + 1], sort_keys=True)


def dump(body: dict[str, Any]) -> bytes:
    """Return a body as it is sent. Raises :class:`ApiError` for a number that JSON does not have: 1e999 is infinity."""
    try:
        return json.dumps(body, allow_nan=False).encode()
    except ValueError as error:
        raise ApiError(400, "invalid_json", "The body is not JSON.") from error


def _refuse_constant(name: str) -> None:
    """Refuse NaN and infinities, which Python reads and JSON does not know: vLLM might compute with them."""
    raise ValueError(f"{name} is not JSON")


def _check_number(body: dict[str, Any], name: str, maximum: int, *, minimum: int = 1) -> None:
    value = body.get(name)
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise ApiError(400, "invalid_parameter", f"{name} is a whole number from {minimum} to {maximum}.", name)
