"""The interface of a store, and the parts that all stores share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

MANIFEST = "result.json"


class ArtifactError(Exception):
    """An artifact is missing, incomplete, not what its manifest says, of another run, or can't be written."""


class ArtifactNotFound(ArtifactError):
    """The store has no such artifact. It answered: nothing else means that there is none."""


class ArtifactDamaged(ArtifactError):
    """An artifact is there and is not what its manifest says."""


class StoreUnavailable(ArtifactError):
    """The store is away, full, or refuses access: an artifact may be there or not. Another attempt can succeed."""


class Store(Protocol):
    """The artifacts of one run, by stage name."""

    def draft(self, name: str) -> Path:
        """Return an empty local folder to fill for artifact ``name``, this process's alone."""
        ...

    def close(self) -> None:
        """Remove the drafts that this store made and that were not published."""
        ...

    def sweep(self, idle_seconds: float) -> list[Path]:
        """Remove the drafts whose owners died; see :class:`distillery.core.artifacts.drafts.Drafts`."""
        ...

    def publish(self, name: str, draft: Path, result: Mapping[str, Any]) -> dict[str, Any]:
        """Seal a draft under its name and return its manifest: ``result`` with ``files``, their sizes and digests.

        An artifact that is there already stays if it is whole: stages are repeatable, and the first result counts.

        Raises:
            StoreUnavailable: nothing was published; the draft is gone.
            ArtifactError: what is there belongs to another run.
        """
        ...

    def manifest(self, name: str) -> dict[str, Any]:
        """Return an artifact's manifest.

        Raises:
            ArtifactNotFound: there is none.
            StoreUnavailable: nobody knows whether there is one.
            ArtifactError: it is unreadable, or another run's.
        """
        ...

    def place(self, name: str) -> str:
        """Return the path of an artifact's folder, or its URI, for a person. Raises as :meth:`manifest` does."""
        ...

    def open(self, name: str, *, student: str = "") -> tuple[Path, dict[str, Any]]:
        """Return an artifact as a local folder, and its manifest. Raises as :meth:`manifest` does.

        Every file was checked against its digest once in this process, or is now.

        Args:
            name: of the artifact.
            student: digest of the adapter that it has to hold; empty for any.
        """
        ...

    def keep(self, name: str, folder: Path) -> None:
        """Keep a copy of what an attempt at a stage left in a folder, for the next attempt, on another machine.

        Does nothing where such folders outlive their pods, as they do next to artifacts in a folder.
        """
        ...

    def restore(self, name: str, folder: Path) -> None:
        """Fill a folder with what :meth:`keep` was given last, if anything. Raises :class:`StoreUnavailable`."""
        ...

    def forget(self, name: str) -> None:
        """Remove what :meth:`keep` was given."""
        ...


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(draft: Path) -> dict[str, dict[str, Any]]:
    """Return the size and digest of every file of a draft, by its path in it."""
    return {
        path.relative_to(draft).as_posix(): {"bytes": path.stat().st_size, "sha256": digest_of_file(path)}
        for path in sorted(draft.rglob("*"))
        if path.is_file()
    }


def read_manifest(name: str, where: str, content: bytes) -> dict[str, Any]:
    """Parse a manifest; every file it names lies inside the artifact. Raises :class:`ArtifactDamaged`."""
    try:
        manifest = json.loads(content)
        files = manifest["files"]
        outside = [file for file in files if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactDamaged(f"artifact {name} has no readable manifest at {where}: {error}") from error
    if outside:
        raise ArtifactDamaged(f"the manifest of artifact {name} names a file outside of it: {outside[0]}")
    return manifest


def check(name: str, folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare every file with the manifest.

    Raises:
        ArtifactDamaged: one is missing, or is another.
        StoreUnavailable: one can't be read.
    """
    for file, entry in files.items():
        path = folder / file
        try:
            whole = path.stat().st_size == entry["bytes"] and digest_of_file(path) == entry["sha256"]
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            whole = False
        except OSError as error:
            raise StoreUnavailable(f"artifact {name}: {path} can't be read: {error}") from error
        if not whole:
            raise ArtifactDamaged(f"artifact {name}: {path} is missing or is not what the manifest says")


def check_student(name: str, manifest: Mapping[str, Any], student: str) -> None:
    """Raise :class:`ArtifactError` unless an artifact holds the adapter that was asked for."""
    digest = manifest.get("student")
    if student and digest != student:
        raise ArtifactError(f"artifact {name} holds a student with the digest {str(digest)[:12]}, not {student[:12]}")
