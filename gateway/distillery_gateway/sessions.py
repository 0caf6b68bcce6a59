"""The names of sessions, which clients choose."""

from __future__ import annotations

import hashlib
import re

from distillery_gateway.errors import ApiError

HEADER = "x-session-id"

_NAME = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")


def check_session(name: str, parameter: str) -> str:
    """Return a session's name if clients may give it. Raises :class:`ApiError` that names the header or parameter."""
    if not _NAME.fullmatch(name):
        message = f"{parameter} is 1 to 128 letters, digits and characters of . _ : @ / + = -"
        raise ApiError(400, "invalid_parameter", message, parameter)
    return name


def session_digest(key: str, alias: str, name: str) -> bytes:
    """Return the digest that identifies a session: a client of another key can't speak for it."""
    return hashlib.sha256(f"{key}\0{alias}\0{name}".encode("utf-8", "surrogatepass")).digest()
