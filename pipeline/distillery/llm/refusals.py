"""The meaning of a server's refusal of a request: for this prompt alone, or for every request of the run.

Status, error code and parameter decide, as OpenAI's API has them. Wordings are read for one thing only: whether a
prompt is too long, which most servers say in no other way. A long prompt refused in unknown words is a refused prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Cause(StrEnum):
    """The cause of a refusal."""

    LENGTH = "length"
    """The prompt is too long; a shorter one may do."""

    PROMPT = "prompt"
    """This prompt, for instance by a content filter."""

    PARAMETER = "parameter"
    """A parameter that every request has."""

    REQUEST = "request"
    """Every request: key, model, URL, account."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A parsed refusal.

    Attributes:
        cause: what is to blame.
        text: the server's answer, shortened.
        parameter: the name of the parameter to blame, if one is.
    """

    cause: Cause
    text: str
    parameter: str = ""


_MAX_TEXT = 300
"""Characters of the server's answer that messages quote."""

_OF_ONE_PROMPT = (400, 413, 422, 451)
"""Statuses that can be one prompt's alone. All others (401, 402, 403, 404, 405, ...) would meet every request."""

_LENGTH_CODES = ("context_length_exceeded", "exceed_context_size_error", "string_above_max_length", "request_too_large")
_FILTER_CODES = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")
_PARAMETER_CODES = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
_MODEL_CODES = ("model_not_found", "DeploymentNotFound")

_TOO_LONG = re.compile(
    r"maximum context length"  # OpenAI, vLLM, Mistral, DeepSeek, Fireworks
    r"|longer than the (maximum model length|model's context length)"  # vLLM, SGLang
    r"|exceeds? (the )?(available )?context (size|limit|window)"  # llama.cpp, Anthropic, llama-cpp-python
    r"|(prompt|input) is too long"  # Anthropic, Bedrock
    r"|input token count .*exceeds the maximum number of tokens"  # Gemini
    r"|`inputs` (tokens \+ `max_new_tokens` must be <=|must have less than)"  # TGI
    r"|maximum prompt length"  # xAI
    r"|request too large for"  # OpenAI and Groq, of an account's limit
    r"|reduce the length of the (messages|input|prompt)",
    re.IGNORECASE | re.DOTALL,
)
_SCHEMA = re.compile(r"response_format|json_schema|minItems|maxItems", re.IGNORECASE)


def parse_refusal(status: int, answer: Any, sent: Collection[str] = ()) -> Refusal:
    """Parse a refusal.

    Args:
        status: of the response, 400 or more.
        answer: its body, as JSON or as text.
        sent: names of the parameters that the request had, but for the model and the messages.
    """
    error = _extract_error(answer)
    codes = [str(error.get(key) or "") for key in ("code", "type", "status")]
    text = (json.dumps(answer) if not isinstance(answer, str) else answer)[:_MAX_TEXT]
    if is_too_long(status, answer):
        return Refusal(Cause.LENGTH, text)
    if any(code in _FILTER_CODES for code in codes) or _is_moderated(error):
        return Refusal(Cause.PROMPT, text)
    if status not in _OF_ONE_PROMPT or any(code in _MODEL_CODES for code in codes):
        return Refusal(Cause.REQUEST, text)
    parameter = str(error.get("param") or "").partition(".")[0].partition("[")[0]
    if parameter not in sent and "response_format" in sent and _SCHEMA.search(_extract_message(error)):
        parameter = "response_format"
    if parameter in sent or any(code in _PARAMETER_CODES for code in codes):
        return Refusal(Cause.PARAMETER, text, parameter)
    return Refusal(Cause.PROMPT, text)


def is_too_long(status: int, answer: Any) -> bool:
    """Return whether a prompt was refused for its length, by status, code, or the words of a known server."""
    error = _extract_error(answer)
    has_code = any(error.get(key) in _LENGTH_CODES for key in ("code", "type"))
    return status == 413 or has_code or bool(_TOO_LONG.search(_extract_message(error)))


def suggest_parameter_fix(field: str, parameter: str, sent: Mapping[str, Any]) -> str:
    """Return the entry of ``parameters``, of the endpoint at ``field``, with which the request is accepted."""
    fix = f"{parameter}: null"
    if parameter == "max_tokens":
        fix = f"max_tokens: null, max_completion_tokens: {sent.get('max_tokens')}"
    return f"{field}.parameters: write {{{fix}}}"


def _extract_error(answer: Any) -> Mapping[str, Any]:
    """Return the error object: OpenAI nests it, Gemini puts it into a list, older vLLM sends it bare, TGI a text."""
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(answer, dict):
        return {"message": str(answer)}
    error = answer.get("error", answer.get("detail", answer))
    return error if isinstance(error, dict) else {"message": error if isinstance(error, str) else json.dumps(error)}


def _extract_message(error: Mapping[str, Any]) -> str:
    """Return the message of an error; empty if it has none."""
    return str(error.get("message") or "")


def _is_moderated(error: Mapping[str, Any]) -> bool:
    """Return whether a moderation flagged the prompt: OpenRouter then answers 403, with the flagged text."""
    metadata = error.get("metadata")
    return isinstance(metadata, dict) and "flagged_input" in metadata
