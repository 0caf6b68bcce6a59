"""What stage ``prepare`` left: the list of tasks, and the environment's material."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distillery.api.run import Spec
from distillery.artifacts import ArtifactNotFound, Store
from distillery.planning.stages import PREPARE, artifact_of


def open_prepared(store: Store, spec: Spec) -> tuple[Path, dict[str, Any]]:
    """The artifact for as many held-out tasks as are wanted: its folder, and its manifest.

    Raises :class:`distillery.artifacts.ArtifactError`, also where an earlier version pinned another number of tasks.
    """
    wanted = spec.environment.tasks.evaluate
    try:
        return store.open(artifact_of(PREPARE, spec))
    except ArtifactNotFound as absent:
        try:
            folder, manifest = store.open(str(PREPARE))
        except ArtifactNotFound:
            raise absent from None
        pinned = manifest["tasks"]["evaluate"]["n"]
        if pinned != wanted:
            message = f"an earlier version of Distillery pinned {pinned} held-out tasks, and can't add any"
            raise ArtifactNotFound(f"spec.environment.tasks.evaluate: {wanted}: {message}: write {pinned}") from None
        return folder, manifest
