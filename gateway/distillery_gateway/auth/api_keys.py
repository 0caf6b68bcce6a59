"""The API keys of clients, of which only digests are stored.

    python -m distillery_gateway.auth.api_keys    makes a key, and prints it and its digest

A folder holds one file a key, as a mounted Secret does: the file's name is the key's, its content is the digest, or a
JSON object with ``sha256`` and, as needed, ``models``, ``requestsPerMinute``, ``maxConcurrentRequests``, ``expires``.
Changes take effect within seconds. A limit holds in each pod, and a limit of 0 blocks the key. ``expires`` is a time as
in RFC 3339, such as ``2027-01-31T00:00:00Z``, from which on the key is refused. A field with a wrong value makes the
key unusable.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_FIELDS = frozenset(["sha256", "models", "requestsPerMinute", "maxConcurrentRequests", "expires"])
PREFIX = "dk-"


@dataclass(frozen=True, slots=True)
class Key:
    """A stored key.

    Attributes:
        name: for logs and metrics.
        digest: SHA-256 of the key.
        models: aliases that it may use; None for all.
        requests_per_minute: None for the gateway's default, 0 for none at all.
        max_concurrent_requests: likewise.
        expires: the time from which on it is refused; None for never.
    """

    name: str
    digest: str
    models: frozenset[str] | None = None
    requests_per_minute: int | None = None
    max_concurrent_requests: int | None = None
    expires: datetime | None = None

    def is_expired(self, now: datetime) -> bool:
        """Return whether the key is refused at a time, which has a zone."""
        return self.expires is not None and now >= self.expires


def digest_of(key: str) -> str:
    """Return the hash that is stored of a key. Keys are random and long, so a plain hash does."""
    return hashlib.sha256(key.encode()).hexdigest()


class ApiKeyStore:
    """The keys of a folder; open to everybody if no folder is given."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._version = ""
        self._files: dict[str, str] = {}
        self._keys: dict[str, Key] = {}
        self.refresh()

    @property
    def open(self) -> bool:
        """True if requests need no key."""
        return self._folder is None

    def refresh(self) -> bool:
        """Read the folder again; True if something changed. Invalid key files are logged and skipped."""
        if self._folder is None:
            return False
        version = _version(self._folder)
        if version and version == self._version:
            return False
        files = (
            {
                path.name: path.read_text(encoding="utf-8", errors="replace").strip()
                for path in sorted(self._folder.iterdir())
                if not path.name.startswith(".") and path.is_file()
            }
            if self._folder.is_dir()
            else {}
        )
        self._version = version
        if files == self._files:
            return False
        self._files = files
        keys = {}
        for name, text in files.items():
            try:
                key = _parse(name, text)
                keys[key.digest] = key
            except ValueError as error:
                _log.error("the key %s is not usable: %s", name, error)
        self._keys = keys
        return True

    def find(self, authorization: str) -> Key | None:
        """Return the key that an ``Authorization`` header brings, or None if it brings no valid one.

        The time that it takes reveals nothing of a key: digests are compared, which nobody can choose.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        return self._keys.get(digest_of(token.strip()))


def _version(folder: Path) -> str:
    """Return the link that the kubelet moves when a mounted Secret changes; empty for another folder."""
    try:
        return str((folder / "..data").readlink())
    except OSError:
        return ""


def _parse(name: str, text: str) -> Key:
    if _DIGEST.fullmatch(text):
        return Key(name, text)
    document = json.loads(text)
    if not isinstance(document, dict) or not _DIGEST.fullmatch(str(document.get("sha256"))):
        raise ValueError("write the key's SHA-256 in hexadecimal, alone or as sha256 of a JSON object")
    unknown = document.keys() - _FIELDS
    if unknown:
        raise ValueError(f"unknown field {sorted(unknown)[0]}")
    models = document.get("models")
    if models is not None and not (isinstance(models, list) and all(isinstance(model, str) for model in models)):
        raise ValueError("models is a list of names")
    return Key(
        name,
        document["sha256"],
        None if models is None else frozenset(models),
        _limit(document, "requestsPerMinute"),
        _limit(document, "maxConcurrentRequests"),
        _expiry(document["expires"]) if "expires" in document else None,
    )


def _limit(document: Mapping[str, Any], name: str) -> int | None:
    value = document.get(name)
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"{name} is a whole number; 0 blocks the key")
    return value


def _expiry(value: Any) -> datetime:
    with suppress(ValueError):
        if isinstance(value, str) and _TIME.fullmatch(value):
            return datetime.fromisoformat(value)
    raise ValueError("expires is a time with its zone, such as 2027-01-31T00:00:00Z")


def main() -> None:
    """Make a key, and print it with its digest."""
    key = PREFIX + secrets.token_urlsafe(32)
    print(f"key     {key}   (give it to its user; it is not kept)")
    print(f"sha256  {digest_of(key)}   (put it into the Secret)")


if __name__ == "__main__":
    main()
