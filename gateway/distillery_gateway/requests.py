"""What models may be asked: two endpoints, and the parameters that the server behind stands.

What is not known is refused, for vLLM knows parameters that read files, run for ever or end the process.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from distillery_gateway.errors import Refusal
from distillery_gateway.limits import Limits

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

_MOST_LOGPROBS = 20


def parse(path: str, raw: bytes, limits: Limits, *, denied: Collection[str] = ()) -> dict[str, Any]:
    """The body of a request to one of the endpoints, checked. Raises :class:`Refusal`.

    Args:
        path: the endpoint.
        raw: the body.
        limits: the gateway's.
        denied: parameters that the server behind can't stand.
    """
    body = parse_object(raw)
    needed = "messages" if path == CHAT else "prompt"
    if needed not in body:
        raise Refusal(400, "missing_parameter", f"The parameter {needed} is missing.", needed)
    for name in body:
        if name in denied:
            raise Refusal(400, "unsupported_parameter", f"The parameter {name} is not supported here.", name)
        if name not in _ENDPOINTS[path]:
            raise Refusal(400, "unknown_parameter", f"The parameter {name[:64]!r} is not known here.", name[:64])
    _check_number(body, "n", limits.choices)
    for name in ("max_tokens", "max_completion_tokens"):
        _check_number(body, name, limits.max_tokens)
    for name in ("logprobs", "top_logprobs"):
        if not isinstance(body.get(name), bool):
            _check_number(body, name, _MOST_LOGPROBS, least=0)
    return body


def demands_format(body: Mapping[str, Any]) -> bool:
    """Whether the server behind holds the model to a grammar, which may leave it nothing to say."""
    given, choice = body.get("response_format"), body.get("tool_choice")
    formatted = isinstance(given, dict) and given.get("type") not in (None, "text")
    return formatted or isinstance(choice, dict) or choice == "required"


def parse_object(raw: bytes) -> dict[str, Any]:
    """A body that is an object and names a model. Raises :class:`Refusal`."""
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_json", "The body is not JSON.") from error
    if not isinstance(body, dict):
        raise Refusal(400, "invalid_json", "The body is not a JSON object.")
    if not isinstance(body.get("model"), str):
        raise Refusal(400, "missing_parameter", "Name the model as a string.", "model")
    return body


def _refuse_constant(name: str) -> None:
    """NaN and infinities, which Python reads and JSON does not know: a server behind may compute with them."""
    raise ValueError(f"{name} is not JSON")


def _check_number(body: dict[str, Any], name: str, most: int, *, least: int = 1) -> None:
    value = body.get(name)
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Refusal(400, "invalid_parameter", f"{name} is a whole number from {least} to {most}.", name)
