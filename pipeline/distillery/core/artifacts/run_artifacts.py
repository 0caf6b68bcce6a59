"""The artifacts of one run, in a place that other runs of its name may use too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillery.core.artifacts.base import ArtifactError, ArtifactNotFound, Store
from distillery.core.artifacts.identity import Identity


class RunArtifacts:
    """See :class:`distillery.core.artifacts.Store`. Every manifest names the run that wrote it.

    Earlier versions kept artifacts without the run's key and without its name: those are read, never written, and only
    where it is proven that this run wrote them: its records hold the same manifest, or it asks for the very adapter.

    Args:
        own: where this run's artifacts lie.
        former: where an earlier version would have put them.
        run: the run.
        recorded: the manifests that the run's records hold, by stage.
    """

    def __init__(self, own: Store, former: Store, *, run: Identity, recorded: Mapping[str, Mapping[str, Any]]) -> None:
        self._own = own
        self._former = former
        self._run = run
        self._recorded = recorded

    def draft(self, name: str) -> Path:
        """Return an empty folder to fill."""
        return self._own.draft(name)

    def close(self) -> None:
        """Remove what was not published."""
        self._own.close()

    def sweep(self, idle_seconds: float) -> list[Path]:
        """Remove the drafts of this run's processes that died."""
        return self._own.sweep(idle_seconds)

    def publish(self, name: str, draft: Path, result: Mapping[str, Any]) -> dict[str, Any]:
        """Seal a draft. Raises :class:`ArtifactError`."""
        manifest = self._own.publish(name, draft, {"run": str(self._run), **result})
        self._check_run(name, manifest)
        return manifest

    def manifest(self, name: str) -> dict[str, Any]:
        """Return an artifact's manifest. Raises :class:`ArtifactError`."""
        return self._find(name, "")[1]

    def place(self, name: str) -> str:
        """Return the path or the URI of an artifact. Raises :class:`ArtifactError`."""
        return self._find(name, "")[0].place(name)

    def open(self, name: str, *, student: str = "") -> tuple[Path, dict[str, Any]]:
        """Return an artifact as a local folder, and its manifest. Raises :class:`ArtifactError`."""
        return self._find(name, student)[0].open(name, student=student)

    def keep(self, name: str, folder: Path) -> None:
        """Keep a copy of a stage's folder of work."""
        self._own.keep(name, folder)

    def restore(self, name: str, folder: Path) -> None:
        """Bring a stage's folder of work back."""
        self._own.restore(name, folder)

    def forget(self, name: str) -> None:
        """Remove a stage's folder of work."""
        self._own.forget(name)

    def _find(self, name: str, student: str) -> tuple[Store, dict[str, Any]]:
        """Return the one of the two stores that has an artifact of this run, and its manifest."""
        try:
            manifest = self._own.manifest(name)
            if "run" in manifest:
                self._check_run(name, manifest)
                return self._own, manifest
            if self._is_recorded(name, manifest, student):
                return self._own, manifest
            raise ArtifactNotFound(f"artifact {name} names no run, and nothing proves that it is of {self._run.uid}")
        except ArtifactNotFound as absent:
            try:
                manifest = self._former.manifest(name)
            except ArtifactNotFound:
                raise absent from None
            if not self._is_recorded(name, manifest, student):
                raise absent
            return self._former, manifest

    def _check_run(self, name: str, manifest: Mapping[str, Any]) -> None:
        """Raise :class:`ArtifactError` if another run wrote a manifest."""
        if manifest.get("run") != str(self._run):
            raise ArtifactError(
                f"artifact {name} was written by the run {manifest.get('run')}, and this is {self._run}: "
                "give this run another storage.uri, or remove what lies there"
            )

    def _is_recorded(self, name: str, manifest: Mapping[str, Any], student: str) -> bool:
        """Return whether a manifest that names no run is one that this run wrote."""
        if "run" in manifest:
            return False
        return manifest == self._recorded.get(name) or bool(student and manifest.get("student") == student)
