"""The store at a URI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from distillery.core.artifacts.base import Store
from distillery.core.artifacts.folder import FolderStore
from distillery.core.artifacts.identity import Identity
from distillery.core.artifacts.run_artifacts import RunArtifacts


def store_at(
    uri: str,
    run: Identity,
    *,
    cache: Path,
    endpoint_url: str | None = None,
    recorded: Mapping[str, Mapping[str, Any]] | None = None,
) -> RunArtifacts:
    """Return the run's store at ``file:///folder`` or ``s3://bucket/prefix``.

    Args:
        uri: what all runs of the name share.
        run: whose artifacts.
        cache: local folder for a store that is not one itself.
        endpoint_url: of an S3 server other than AWS's.
        recorded: the manifests that the run's records hold, by stage: what proves that artifacts are its own that an
            earlier version of the program wrote.
    """
    parts = urlparse(uri)
    path, own = unquote(parts.path), cache / run.key
    match parts.scheme:
        case "file":
            stores: tuple[Store, Store] = FolderStore(Path(path) / run.key), FolderStore(Path(path))
        case "s3":
            from distillery.core.artifacts.s3 import S3Store

            stores = (
                S3Store(parts.netloc, f"{path}/{run.key}", cache=own, endpoint_url=endpoint_url),
                S3Store(parts.netloc, path, cache=own, endpoint_url=endpoint_url),
            )
        case _:
            raise ValueError(f"no store is known at {uri}")
    return RunArtifacts(*stores, run=run, recorded=recorded or {})
