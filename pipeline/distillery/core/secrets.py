"""Keys of Secrets as files, where the operator mounts them and where a user without a cluster puts them."""

from __future__ import annotations

import os
from pathlib import Path


class SecretNotFound(Exception):
    """The file isn't there; the message names its path, and the fix."""


def read_secret(name: str, key: str) -> str:
    """Read the value of a Secret's key, ``$DISTILLERY_SECRETS/<name>/<key>``, without blanks around it.

    Raises:
        SecretNotFound: it isn't there, or can't be read.
    """
    folder = Path(os.environ.get("DISTILLERY_SECRETS", "~/.config/distillery/secrets")).expanduser()
    path = folder / name / key
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SecretNotFound(
            f"secret {name}, key {key}: no such file {path}; put the value there, "
            "or name another folder in DISTILLERY_SECRETS"
        ) from error
