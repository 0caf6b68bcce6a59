"""Artifacts in a folder: a local one, or a volume that several pods mount."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillery.artifacts.base import MANIFEST, ArtifactError, check, files_of, read_manifest


class FolderStore:
    """See :class:`distillery.artifacts.Store`.

    A draft lies in the same file system as the store and becomes an artifact in one rename.

    Args:
        root: the run's folder; made when first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._checked: set[str] = set()

    def draft(self, name: str) -> Path:
        """An empty folder to fill."""
        # of this process: workers of one stage may publish side by side
        folder = self.root / f".{name}.{os.getpid()}.draft"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(self, name: str, draft: Path, result: Mapping[str, Any]) -> dict[str, Any]:
        """Seal a draft. Raises :class:`ArtifactError`."""
        final = self.root / name
        try:
            manifest = {**result, "files": files_of(draft)}
            (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            for path in [*draft.rglob("*"), draft]:
                _sync(path)
            if final.exists():
                try:
                    return self.open(name)[1]
                except ArtifactError:
                    shutil.rmtree(final)
            try:
                draft.rename(final)
            except OSError:
                if not final.exists():
                    raise
                return self.open(name)[1]  # another worker was quicker
            _sync(self.root)
        except OSError as error:
            raise ArtifactError(f"artifact {name} could not be written to {self.root}: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return manifest

    def manifest(self, name: str) -> dict[str, Any]:
        """An artifact's manifest. Raises :class:`ArtifactError`."""
        path = self.root / name / MANIFEST
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"artifact {name} has no readable manifest at {path}: {error}") from error
        return read_manifest(name, str(path), content)

    def open(self, name: str) -> tuple[Path, dict[str, Any]]:
        """An artifact's folder and manifest. Raises :class:`ArtifactError`."""
        folder, manifest = self.root / name, self.manifest(name)
        if name not in self._checked:
            check(name, folder, manifest["files"])
            self._checked.add(name)
        return folder, manifest


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
