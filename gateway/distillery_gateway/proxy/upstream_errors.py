"""The translation of vLLM's errors: the client gets what concerns its request, and nothing about the servers behind."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

from distillery_gateway.errors import ApiError

_MAX_MESSAGE = 1000  # characters


def translate_error(
    status: int, body: bytes, headers: Mapping[str, str], *, formatted: bool, names: ModelNames
) -> ApiError:
    """Return the error that the client gets.

    Args:
        status: of the upstream response.
        body: of the upstream response.
        headers: of the upstream response.
        formatted: the request demands a format, which the model may be unable to write.
        names: the model's names, here and behind.
    """
    retry_after = headers.get("Retry-After", "")
    retry = {"Retry-After": retry_after if retry_after.isdigit() else "1"}
    if status == 404:
        message = "The model is not being served at the moment; try again."
        return ApiError(503, "model_not_ready", message, headers=retry)
    if status == 500 and formatted:
        # vLLM gives no other sign where its grammar refuses all tokens; a retry would end the same way
        message = "The model could not write the format that the request demands."
        return ApiError(422, "format_not_generated", message)
    if status >= 500:
        return upstream_failed(retry)
    return _translate_rejection(status, body, retry if status == 429 else {}, names)


def upstream_failed(headers: Mapping[str, str]) -> ApiError:
    """Return the error for a server that failed, with headers that name the time of the next try."""
    return ApiError(503, "upstream_failed", "The model's server failed; try again.", headers=headers)


class ModelNames:
    """The names of a model in messages: the client must see the alias that it asked for.

    Args:
        alias: the model's name for clients.
        internal: names that the servers behind use.
    """

    def __init__(self, alias: str, internal: Collection[str]) -> None:
        self._alias = alias
        self._internal = internal

    def replace(self, text: str) -> str:
        """Return the text with each internal name replaced by the alias."""
        names = "|".join(map(re.escape, self._internal))
        return re.sub(rf"(?<![\w-])(?:{names})(?![\w-])", self._alias, text)


def _translate_rejection(status: int, body: bytes, headers: Mapping[str, str], names: ModelNames) -> ApiError:
    try:
        document = json.loads(body)
        error = document.get("error", document)
        message = names.replace(str(error["message"])[:_MAX_MESSAGE])
        code = str(error.get("code") or "")
        code = "invalid_request" if not code or code.isdigit() else code
        return ApiError(status, code, message, error.get("param"), headers)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(status, "invalid_request", "The model's server refused the request.", headers=headers)
