"""The session of a request, which one student answers as long as shares stay."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

HEADER = "x-session-id"


def session_of(headers: Mapping[str, str], body: Mapping[str, Any], *, key: str, identity: str) -> str:
    """Return the name of a request's session.

    Without the header and ``user``, which few harnesses send, a conversation is known by the key and by its first
    messages, up to the user's first: they stand in each of its requests.

    Args:
        headers: of the request, in lower case.
        body: likewise.
        key: the name of the client.
        identity: of the request, which is a session of its own where nothing else is known.
    """
    if given := headers.get(HEADER) or body.get("user"):
        return str(given)
    messages = body.get("messages")
    if not isinstance(messages, list):
        return identity
    roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
    if "user" not in roles:
        return identity
    opening = messages[: roles.index("user") + 1]
    return hashlib.sha256(json.dumps([key, opening], sort_keys=True).encode()).hexdigest()
