"""The text of a response that passed through, whole or as a stream of events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def extract_text(body: bytes, *, stream: bool) -> str | None:
    """Return the text of the first choice, or None if the response is broken or is an error.

    Args:
        body: of the response.
        stream: it was sent event by event.
    """
    try:
        if not stream:
            return _content(json.loads(body)["choices"], "message")
        events = list(_events(body))
        if not events or events[-1] != b"[DONE]":
            return None  # it was cut
        return "".join(_content(json.loads(event)["choices"], "delta") for event in events[:-1])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _events(body: bytes) -> Iterator[bytes]:
    for line in body.splitlines():
        if line.startswith(b"data:"):
            yield line.removeprefix(b"data:").strip()


def _content(choices: Any, part: str) -> str:
    return "".join(choice[part].get("content") or "" for choice in choices if choice.get("index", 0) == 0)
