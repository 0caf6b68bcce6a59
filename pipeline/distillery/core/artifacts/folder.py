"""Artifacts in a folder: a local one, or a volume that several pods mount."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillery.core.artifacts.base import (
    MANIFEST,
    ArtifactDamaged,
    ArtifactNotFound,
    StoreUnavailable,
    check,
    check_student,
    files_of,
    read_manifest,
)
from distillery.core.artifacts.drafts import Drafts


class FolderStore:
    """See :class:`distillery.core.artifacts.Store`.

    A draft lies in the same file system as the store and becomes an artifact in one rename.

    Args:
        root: the run's folder; made when first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._drafts = Drafts(root)
        self._checked: set[str] = set()

    def draft(self, name: str) -> Path:
        """Return an empty folder to fill. Raises :class:`StoreUnavailable`."""
        try:
            return self._drafts.make(name)
        except OSError as error:
            raise StoreUnavailable(f"artifact {name} can't be written to {self.root}: {error}") from error

    def close(self) -> None:
        """Remove what was not published."""
        self._drafts.close()

    def sweep(self, idle_seconds: float) -> list[Path]:
        """Remove the drafts of others that died."""
        return self._drafts.sweep(idle_seconds)

    def publish(self, name: str, draft: Path, result: Mapping[str, Any]) -> dict[str, Any]:
        """Seal a draft. Raises :class:`StoreUnavailable`."""
        final = self.root / name
        try:
            manifest = {**result, "files": files_of(draft)}
            (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            for path in [*draft.rglob("*"), draft]:
                _sync(path)
            try:
                return self.open(name)[1]
            except ArtifactNotFound:
                pass
            except ArtifactDamaged:
                shutil.rmtree(final)
            try:
                draft.rename(final)
            except OSError:
                if not final.exists():
                    raise
                try:
                    return self.open(name)[1]  # another worker was quicker
                except ArtifactNotFound:  # a folder without a manifest, which none of us leaves
                    shutil.rmtree(final)
                    draft.rename(final)
            _sync(self.root)
        except OSError as error:
            raise StoreUnavailable(f"artifact {name} could not be written to {self.root}: {error}") from error
        finally:
            self._drafts.discard(draft)
        return manifest

    def manifest(self, name: str) -> dict[str, Any]:
        """Return an artifact's manifest. Raises :class:`ArtifactError`."""
        path = self.root / name / MANIFEST
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ArtifactNotFound(f"artifact {name} has no readable manifest at {path}: {error}") from error
        except OSError as error:
            raise StoreUnavailable(f"artifact {name}: {path} can't be read: {error}") from error
        return read_manifest(name, str(path), content)

    def place(self, name: str) -> str:
        """Return the path of an artifact's folder. Raises :class:`ArtifactError`."""
        self.manifest(name)
        return str(self.root / name)

    def open(self, name: str, *, student: str = "") -> tuple[Path, dict[str, Any]]:
        """Return an artifact's folder and manifest. Raises :class:`ArtifactError`."""
        folder, manifest = self.root / name, self.manifest(name)
        check_student(name, manifest, student)
        if name not in self._checked:
            check(name, folder, manifest["files"])
            self._checked.add(name)
        return folder, manifest

    def keep(self, name: str, folder: Path) -> None:
        """Do nothing."""

    def restore(self, name: str, folder: Path) -> None:
        """Do nothing."""

    def forget(self, name: str) -> None:
        """Do nothing."""


def _sync(path: Path) -> None:
    """Write a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
