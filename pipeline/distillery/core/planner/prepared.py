"""The result of stage ``prepare``: the list of tasks, and the environment's material."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distillery.core.artifacts import ArtifactNotFound, Store
from distillery.core.planner.graph import PREPARE, artifact_of


def open_prepared(store: Store, held_out_tasks: int) -> tuple[Path, dict[str, Any]]:
    """Open the artifact for so many held-out tasks: its folder, and its manifest.

    Raises :class:`distillery.core.artifacts.ArtifactError`, also where an earlier version pinned another number of
    tasks.
    """
    try:
        return store.open(artifact_of(PREPARE, held_out_tasks))
    except ArtifactNotFound as absent:
        try:
            folder, manifest = store.open(str(PREPARE))
        except ArtifactNotFound:
            raise absent from None
        pinned = manifest["tasks"]["evaluate"]["n"]
        if pinned != held_out_tasks:
            message = f"an earlier version of Distillery pinned {pinned} held-out tasks, and can't add any"
            raise ArtifactNotFound(
                f"spec.environment.tasks.evaluate: {held_out_tasks}: {message}: write {pinned}"
            ) from None
        return folder, manifest
