"""The configuration of a stage: one JSON document, free of secrets.

An operator of a newer release writes it for images of an older one as well: a field that the image does not know is
ignored, and fields of the run that have their defaults are left out.

Settings that differ from process to process are in its environment instead:

    DISTILLERY_DATABASE_URL       connection string, or
    DISTILLERY_DATABASE_URL_FILE  a file that holds it
    DISTILLERY_SECRETS            folder with the files NAME/KEY
    DISTILLERY_STATUS_PORT        port at which the stage reports its progress by HTTP, if it is to
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from distillery.core.api import DistillationRun, parse, without_defaults
from distillery.core.api.spec.models import Endpoint
from distillery.core.artifacts.identity import Identity
from distillery.core.planner import Stage, StageId
from distillery.core.planner.graph import artifact_of


class Server(BaseModel):
    """The OpenAI-compatible server whose model plays."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    base_url: str
    """Up to and including ``/v1``."""

    model: str
    """The model's name there."""

    api_key_secret: tuple[str, str] | None = None
    """Name and key of the Secret that holds the key."""

    parameters: dict[str, Any] = {}
    """Merged into each request; None leaves a parameter out."""

    field: str = ""
    """The field of the specification that names the server, for messages."""

    @classmethod
    def of(cls, endpoint: Endpoint, *, field: str) -> Self:
        """Return the server of an endpoint, named by a field of the specification."""
        key = endpoint.api_key_secret_ref
        return cls(
            base_url=endpoint.base_url,
            model=endpoint.model,
            api_key_secret=(key.name, key.key) if key else None,
            parameters=dict(endpoint.parameters),
            field=field,
        )


class StageConfig(BaseModel):
    """The document that a stage module reads."""

    model_config = ConfigDict(extra="ignore", frozen=True, validate_by_name=True, serialize_by_alias=True)

    persist_status: bool = Field(default=False, alias="records_itself")  # images of older releases read this key
    """The stage writes its own status to the database, to which the operator has no access on Kubernetes."""

    retry: str = ""
    """The request to retry that the run answered last. Cached failures from before it are not reused."""

    document: dict[str, Any]
    """The DistillationRun, without the fields that have their defaults."""

    stage: str
    """The stage's name."""

    arms: tuple[str, ...] = ()
    """The arms to play."""

    student: bool = False
    """The player is a trained student; its prompt has worked examples only if the specification keeps them."""

    player: str = ""
    """The weights that play: ``base``, ``teacher``, or the digest of a student's adapter. Empty if they are not known,
    as those behind an endpoint."""

    dataset: tuple[str, bool, bool] | None = None
    """For training: learning arm, matched, filtered."""

    own_arms: tuple[str, ...] = ()
    """By round, up to this one: the arm of the play without hints that students learn from. Empty: always ``own``."""

    start: str = ""
    """The name of the model that the round started with, for the results that record it."""

    adapter: str = ""
    """For training: the stage whose adapter it continues from; empty for the base model."""

    merge: bool = False
    """For training: whether the student is also written as merged weights."""

    server: Server | None = None
    """The server whose model plays."""

    identity: str
    """The run's :class:`distillery.core.artifacts.Identity`, which its artifacts name."""

    store: str
    """URI of the artifacts of all runs of the name."""

    store_endpoint: str | None = None
    """URL of the S3 server that holds them, if it is not AWS's."""

    cache: Path
    """A local folder for artifacts that come from elsewhere."""

    work: Path
    """A folder of this stage alone that stays between attempts, for checkpoints."""

    outcome: Path
    """The file in which the stage leaves its result for the executor: :mod:`distillery.core.contracts.stage_result`."""

    @classmethod
    def of(
        cls, run: DistillationRun, stage: Stage, *, identity: Identity, server: Server | None, store: str, **other: Any
    ) -> Self:
        """Return the configuration of a stage of the plan; ``other`` are fields that the executor decides."""
        dataset = stage.dataset
        return cls(
            document=without_defaults(run),
            stage=str(stage.id),
            arms=stage.arms,
            student=stage.player is not None and stage.player.kind == "student",
            dataset=(dataset.arm, dataset.matched, dataset.filtered) if dataset else None,
            own_arms=stage.own_arms,
            start=stage.start,
            adapter=str(stage.adapter or ""),
            server=server,
            identity=str(identity),
            store=store,
            store_endpoint=run.spec.storage.endpoint_url,
            **other,
        )

    @property
    def run(self) -> DistillationRun:
        """The resource."""
        return parse(self.document)

    @property
    def artifact(self) -> str:
        """The name of the stage's artifact."""
        return artifact_of(self.stage_id, self.run.spec.environment.tasks.evaluate)

    @property
    def stage_id(self) -> StageId:
        """The stage's name, parsed."""
        return StageId.parse(self.stage)
