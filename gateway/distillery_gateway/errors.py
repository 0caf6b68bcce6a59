"""Errors in the form of OpenAI's API, and the end of a client's connection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


class ClientGone(Exception):
    """The end of the client's connection: there is nobody to answer any more."""


@dataclass
class ApiError(Exception):
    """An error that answers a request in place of the model.

    Attributes:
        status: of HTTP.
        code: for programs.
        message: for people. Does not reveal the servers behind the gateway.
        parameter: the field to blame.
        headers: more headers.
    """

    status: int
    code: str
    message: str
    parameter: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The response's body."""
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        error = {"message": self.message, "type": kind, "param": self.parameter, "code": self.code}
        return json.dumps({"error": error}).encode()


def model_not_found(model: str) -> ApiError:
    """Return the error for a missing model, and for one that the key may not use: it does not tell them apart."""
    return ApiError(
        404, "model_not_found", f"The model {model[:64]!r} does not exist or you have no access to it.", "model"
    )
