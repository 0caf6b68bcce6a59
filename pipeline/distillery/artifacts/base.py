"""What a store promises, and what all stores share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

MANIFEST = "result.json"


class ArtifactError(Exception):
    """An artifact is missing, incomplete, not what its manifest says, or can't be written."""


class Store(Protocol):
    """The artifacts of one run, by stage name."""

    def draft(self, name: str) -> Path:
        """An empty local folder to fill for artifact ``name``."""
        ...

    def publish(self, name: str, draft: Path, result: Mapping[str, Any]) -> dict[str, Any]:
        """Seal a draft under its name and return its manifest: ``result`` with ``files``, their sizes and digests.

        An artifact that is there already stays if it is whole: stages are repeatable, and the first result counts.

        Raises:
            ArtifactError: the store is full, away or fails; the draft is gone then, and nothing was published.
        """
        ...

    def manifest(self, name: str) -> dict[str, Any]:
        """An artifact's manifest. Raises :class:`ArtifactError` where there is none."""
        ...

    def open(self, name: str) -> tuple[Path, dict[str, Any]]:
        """An artifact as a local folder, and its manifest. Raises :class:`ArtifactError`.

        Every file was checked against its digest once in this process, or is now.
        """
        ...


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(draft: Path) -> dict[str, dict[str, Any]]:
    """Size and digest of every file of a draft, by its path in it."""
    return {
        path.relative_to(draft).as_posix(): {"bytes": path.stat().st_size, "sha256": digest_of_file(path)}
        for path in sorted(draft.rglob("*"))
        if path.is_file()
    }


def read_manifest(name: str, where: str, content: bytes) -> dict[str, Any]:
    """A manifest from its bytes; every file it names lies inside the artifact. Raises :class:`ArtifactError`."""
    try:
        manifest = json.loads(content)
        files = manifest["files"]
        outside = [file for file in files if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"artifact {name} has no readable manifest at {where}: {error}") from error
    if outside:
        raise ArtifactError(f"the manifest of artifact {name} names a file outside of it: {outside[0]}")
    return manifest


def check(name: str, folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise :class:`ArtifactError` unless every file is there as its manifest says."""
    for file, entry in files.items():
        path = folder / file
        if not path.is_file() or path.stat().st_size != entry["bytes"] or digest_of_file(path) != entry["sha256"]:
            raise ArtifactError(f"artifact {name}: {path} is missing or is not what the manifest says")
