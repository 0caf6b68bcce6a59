"""Artifacts: what a stage leaves behind. A folder of files and, written last, its manifest ``result.json``.

A stage fills a draft, which nobody reads; :meth:`Store.publish` makes it an artifact once every byte is where it
belongs. So a half artifact is never taken for a whole one, whatever is killed or full.
"""

from distillery.core.artifacts.base import (
    MANIFEST,
    ArtifactDamaged,
    ArtifactError,
    ArtifactNotFound,
    Store,
    StoreUnavailable,
    digest_of,
    digest_of_file,
)
from distillery.core.artifacts.folder import FolderStore
from distillery.core.artifacts.identity import Identity
from distillery.core.artifacts.run_artifacts import RunArtifacts
from distillery.core.artifacts.stores import store_at

__all__ = [
    "MANIFEST",
    "ArtifactDamaged",
    "ArtifactError",
    "ArtifactNotFound",
    "FolderStore",
    "Identity",
    "RunArtifacts",
    "Store",
    "StoreUnavailable",
    "digest_of",
    "digest_of_file",
    "store_at",
]
