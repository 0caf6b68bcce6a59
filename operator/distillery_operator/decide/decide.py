"""The decision about a run: a pure function of the resource, its status and the observed objects.

:func:`decide` reads from top to bottom as the life of a run: it is checked, gets its account, volume and database,
its stages are started as the planner says, a student that passed the gate is served, and in the end it is complete or
failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from distillery.core.api import InvalidRun
from distillery_operator.decide.context import Context, Step, carry_out, read_context
from distillery_operator.decide.steps.ended import delete_old_jobs, keep_account, keep_database, report_end
from distillery_operator.decide.steps.problems import report_problems
from distillery_operator.decide.steps.provision import provision
from distillery_operator.decide.steps.rejection import reject
from distillery_operator.decide.steps.serving import keep_history, keep_history_later, serve
from distillery_operator.decide.steps.stages import advance, fail, stop_stages, suspend
from distillery_operator.model.decision import Decision
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed
from distillery_operator.model.phases import RunPhase
from distillery_operator.settings import Settings

Guard = Callable[[Context], bool]


def decide(
    body: Manifest, status: Mapping[str, Any], observed: Observed, settings: Settings, now: datetime
) -> Decision:
    """Return the decision about a run.

    Args:
        body: the run as the API server has it.
        status: its status as the controller wrote it last.
        observed: the run's objects.
        settings: the operator's.
        now: the time, with its zone.
    """
    try:
        context = read_context(body, status, observed, settings, now)
    except InvalidRun as error:
        return reject(error, body, status, observed, now)
    steps = next((steps for applies, steps in GUARDS if applies(context)), STEPS)
    return carry_out(context, steps)


def ended_before_a_round_did(context: Context) -> bool:
    """Return whether the run ended, and none of its rounds did: it serves nothing."""
    return context.has_ended and not context.status.get("rounds")


def has_ended(context: Context) -> bool:
    """Return whether the run was complete or failed before."""
    return context.has_ended


def has_failed(context: Context) -> bool:
    """Return whether a stage failed for good."""
    return context.plan.phase == RunPhase.FAILED


def is_suspended(context: Context) -> bool:
    """Return whether the user suspended the run."""
    return context.run.run.spec.suspend


STEPS: tuple[Step, ...] = (provision, serve, keep_history, advance, report_problems)
"""The steps for a run in progress."""

GUARDS: tuple[tuple[Guard, tuple[Step, ...]], ...] = (
    (ended_before_a_round_did, (report_end, delete_old_jobs)),
    (has_ended, (serve, keep_history, keep_database, keep_account, report_end, delete_old_jobs)),
    (has_failed, (provision, stop_stages, fail)),
    (is_suspended, (provision, serve, keep_history_later, stop_stages, suspend)),
)
"""The steps for other runs. The first guard that holds decides; an invalid specification comes before all of them."""
