"""Errors as OpenAI's API has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Refusal(Exception):
    """A request that is not answered by the model.

    Attributes:
        status: of HTTP.
        code: for programs.
        message: for people. Says nothing of what stands behind the gateway.
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


def no_such_model(model: str) -> Refusal:
    """Return the refusal for a missing model, and for one that the key may not use: it does not say which."""
    return Refusal(
        404, "model_not_found", f"The model {model[:64]!r} does not exist or you have no access to it.", "model"
    )
