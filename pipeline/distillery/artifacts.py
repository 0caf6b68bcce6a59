"""Artifacts: what a stage leaves behind. A folder of files and, written last, its manifest ``result.json``.

A stage fills a draft, which nobody reads; :meth:`Store.publish` gives it its name in one rename once every byte is on
disk. So a half artifact is never taken for a whole one, whatever is killed or full.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

MANIFEST = "result.json"


class ArtifactError(Exception):
    """An artifact is missing, incomplete or not what its manifest says."""


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Store:
    """The artifacts of one run, by stage name, in a folder.

    Args:
        root: the run's folder; made when first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def at(cls, uri: str) -> Store:
        """The store at a ``file:///`` URI."""
        return cls(Path(unquote(urlparse(uri).path)))

    def draft(self, name: str) -> Path:
        """An empty folder to fill for artifact ``name``; on the same file system as the store."""
        folder = self.root / f".{name}.draft"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(self, name: str, draft: Path, result: Mapping[str, Any]) -> dict[str, Any]:
        """Seal a draft under its name and return its manifest: ``result`` with ``files``, their sizes and digests.

        An artifact that is there already stays if it is whole: stages are repeatable, and the first result counts.

        Raises:
            ArtifactError: the disk is full or fails; the draft is gone then, and nothing was published.
        """
        final = self.root / name
        try:
            files = {
                str(path.relative_to(draft)): {"bytes": path.stat().st_size, "sha256": digest_of_file(path)}
                for path in sorted(draft.rglob("*"))
                if path.is_file()
            }
            manifest = {**result, "files": files}
            (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            for path in [*draft.rglob("*"), draft]:
                _sync(path)
            if final.exists():
                try:
                    return self.open(name)[1]
                except ArtifactError:
                    shutil.rmtree(final)
            draft.rename(final)
            _sync(self.root)
        except OSError as error:
            raise ArtifactError(f"artifact {name} could not be written to {self.root}: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return manifest

    def has(self, name: str) -> bool:
        """Whether the artifact was published."""
        return (self.root / name / MANIFEST).is_file()

    def manifest(self, name: str) -> dict[str, Any]:
        """An artifact's manifest. Raises :class:`ArtifactError` where there is none."""
        path = self.root / name / MANIFEST
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArtifactError(f"artifact {name} has no readable manifest at {path}: {error}") from error

    def open(self, name: str) -> tuple[Path, dict[str, Any]]:
        """An artifact's folder and manifest, every file checked against its digest. Raises :class:`ArtifactError`."""
        folder, manifest = self.root / name, self.manifest(name)
        for file, entry in manifest["files"].items():
            path = folder / file
            if not path.is_file() or path.stat().st_size != entry["bytes"] or digest_of_file(path) != entry["sha256"]:
                raise ArtifactError(f"artifact {name}: {path} is missing or is not what the manifest says")
        return folder, manifest


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
