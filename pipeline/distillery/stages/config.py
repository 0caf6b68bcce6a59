"""What a stage is told: one JSON document, free of secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from distillery.api import DistillationRun, parse
from distillery.planning import StageId


class Server(BaseModel):
    """The OpenAI-compatible server that plays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str
    """Up to and including ``/v1``."""

    model: str
    """The model's name there."""

    api_key_secret: tuple[str, str] | None = None
    """Name and key of the Secret that holds the key."""


class StageConfig(BaseModel):
    """The document that a stage module reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: int
    """The run in the database."""

    document: dict[str, Any]
    """The DistillationRun, with every default written out."""

    stage: str
    """The stage's name."""

    arms: tuple[str, ...] = ()
    """The arms to play."""

    student: bool = False
    """The player is a trained student, whose prompt holds worked examples only if they are kept."""

    dataset: tuple[str, bool, bool] | None = None
    """For training: learning arm, matched, filtered."""

    server: Server | None = None
    """Who plays."""

    store: str
    """URI of the run's artifacts."""

    work: Path
    """A folder of this stage's own, kept between attempts: checkpoints."""

    outcome: Path
    """Where a failing stage leaves its message, for whoever started it."""

    worker: str
    """Names this process in leases; unique among all that ever work on the run."""

    @property
    def run(self) -> DistillationRun:
        """The resource."""
        return parse(self.document)

    @property
    def stage_id(self) -> StageId:
        """The stage's name, taken apart."""
        return StageId.parse(self.stage)
