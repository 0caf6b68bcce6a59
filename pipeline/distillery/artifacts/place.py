"""From a URI to a store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

from distillery.artifacts.base import Store
from distillery.artifacts.folder import FolderStore


def store_at(uri: str, *, cache: Path, endpoint_url: str | None = None) -> Store:
    """The store at ``file:///folder`` or ``s3://bucket/prefix``.

    Args:
        uri: of the run's artifacts.
        cache: local folder for a store that is not one itself.
        endpoint_url: of an S3 server other than AWS's.
    """
    parts = urlparse(uri)
    match parts.scheme:
        case "file":
            return FolderStore(Path(unquote(parts.path)))
        case "s3":
            from distillery.artifacts.s3 import S3Store

            return S3Store(parts.netloc, unquote(parts.path), cache=cache, endpoint_url=endpoint_url)
        case _:
            raise ValueError(f"no store is known at {uri}")
