"""One request of a session and its response, gathered while the response passes through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from distillery.core.contracts.capture import CapturedRequest
from distillery_gateway.capture.redaction import Redactor
from distillery_gateway.capture.responses import extract_text
from distillery_gateway.observers import ResponseObserver

_MAX_ROLE = 16  # characters


@dataclass
class SessionRecord(ResponseObserver):
    """A request, and its response as it passes through.

    Attributes:
        session: the session's name, chosen by the client.
        alias: the model's name for clients.
        model: the student that answers.
        request: the body that was sent; empty where it is too large for the record.
        stream: whether the response comes event by event.
        bytes_left: bytes that the record may still take; negative once it is too large.
    """

    session: str
    alias: str
    model: str
    request: bytes
    stream: bool
    bytes_left: int
    _chunks: list[bytes] = field(default_factory=list)

    def chunk(self, data: bytes) -> None:
        """Add a part of the response; once the response is too long, drop all of it."""
        self.bytes_left -= len(data)
        if self.bytes_left >= 0:
            self._chunks.append(data)
        else:
            self._chunks.clear()

    @property
    def is_too_large(self) -> bool:
        """True if the request or the response was dropped because it is too long."""
        return self.bytes_left < 0

    @property
    def has_response(self) -> bool:
        """True if any of the response has come."""
        return bool(self._chunks)

    def redact(self, redactor: Redactor, now: datetime) -> CapturedRequest | None:
        """Return the record without secrets, as it is written; None if the response is broken."""
        answer = extract_text(b"".join(self._chunks), stream=self.stream)
        if answer is None:
            return None
        messages = json.loads(self.request)["messages"]
        return CapturedRequest(
            session=redactor.name(self.session),
            alias=self.alias,
            model=self.model,
            messages=tuple(_redact_message(message, redactor) for message in messages),
            answer=redactor(answer),
            time=now,
        )


def _redact_message(message: Any, redactor: Redactor) -> dict[str, str]:
    """Return a message's role and redacted text; pictures, tools and the rest are dropped."""
    if not isinstance(message, Mapping):
        return {"role": "", "content": ""}
    content = message.get("content")
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        content = "".join(text for text in parts if isinstance(text, str))
    text = redactor(content) if isinstance(content, str) else ""
    return {"role": str(message.get("role", ""))[:_MAX_ROLE], "content": text}
