"""A run of this machine in a few facts: its phase, its stages, its verdicts and its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillery.cli.display.stage_table import list_pending, list_stages
from distillery.cli.display.watch import describe
from distillery.core.api import DistillationRun, InvalidRun, parse
from distillery.core.api.problems import Problem
from distillery.core.planner import Promotion, plan
from distillery.core.planner.plays import BASELINE
from distillery.database import Database, Row
from distillery.database.runs import RunStore
from distillery.database.sessions import SessionStore
from distillery.database.stages import StageStore, states_of
from distillery.local.executor import RunProgress
from distillery.local.workspace import folder_of_key

UNREADABLE = "Unreadable"
"""The phase of a run whose stored document this version does not accept."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A run as people and scripts see it.

    Attributes:
        row: its row of the table ``run``.
        phase: as in a plan; ``Interrupted`` where no process drives a run that has stages left.
        message: a sentence, with how to resume the run.
        progress: None if the phase is :data:`UNREADABLE`.
    """

    row: Row
    phase: str
    message: str
    progress: RunProgress | None

    @property
    def folder(self) -> Path:
        """The folder with logs and reports."""
        return folder_of_key(self.row["key"])

    @property
    def pending(self) -> list[str]:
        """The stages of the round that have not started."""
        return list_pending(self.progress) if self.progress else []

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """The end of each round: the verdict, the success of baseline and candidate, and whether it was promoted."""
        return [
            {
                "round": verdict.round,
                "verdict": verdict.promotion.outcome,
                "promoted": verdict.promotion.promoted,
                "baseline": _find_success(verdict.promotion, BASELINE),
                "candidate": _find_success(verdict.promotion, verdict.promotion.candidate),
            }
            for verdict in (self.progress.plan.verdicts if self.progress else ())
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the overview for a script."""
        progress = self.progress
        spec = progress.run.spec if progress else None
        return {
            "run": self.row["key"],
            "phase": self.phase,
            "message": self.message,
            "createdAt": self.row["created_at"].isoformat(),
            "lockHolder": self.row["lock_holder"] if progress and progress.driven else None,
            "folder": str(self.folder),
            "environment": spec.environment.name if spec else None,
            "student": spec.models.student.model if spec else None,
            "round": progress.plan.round if progress else None,
            "maxRounds": spec.rounds.max_rounds if spec else None,
            "verdicts": self.verdicts,
            "stages": [_stage_to_json(row) for row in (list_stages(progress) if progress else ())],
            "pending": self.pending,
        }


def _find_success(promotion: Promotion, arm: str) -> float | None:
    return promotion.arms[arm].success if arm in promotion.arms else None


def _stage_to_json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "phase": row["phase"],
        "attempts": row["attempts"],
        "message": row["message"],
        "done": row["done"],
        "total": row["total"],
        "unit": row["unit"],
        "startedAt": row["started_at"].isoformat(),
        "finishedAt": row["finished_at"].isoformat() if row["finished_at"] else None,
    }


async def read_overview(database: Database, row: Row) -> Overview:
    """Return the overview of a run by its row of the table ``run``."""
    try:
        run = parse_stored_run(row)
    except InvalidRun as error:
        problem = f"this version of Distillery does not accept its stored document: {error.problems[0]}"
        return Overview(row, UNREADABLE, f"{problem}. To delete the run: distillery delete {row['key']}", None)
    rows = await StageStore(database, row["id"]).read()
    current = plan(run.spec, states_of(rows), failures=await SessionStore(database, row["id"]).count_pending_failures())
    driven = await RunStore(database).is_driven(row["id"])
    phase, message = describe(run, current, driven=driven)
    return Overview(row, phase, message, RunProgress(run, current, rows, driven=driven))


def parse_stored_run(row: Row) -> DistillationRun:
    """Return the resource that a row of the table ``run`` holds.

    Raises:
        InvalidRun: another version of this program stored it.
    """
    key = row["key"]
    try:
        return parse(row["document"])
    except InvalidRun as error:
        fix = f"use the version that stored this run, or delete it: distillery delete {key}"
        raise InvalidRun(
            [*error.problems, Problem("metadata.name", key, fix)], f"the stored document of run {key}"
        ) from error
