"""The decision about a run whose specification can't be carried out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from distillery.core.api import CannotRun, InvalidRun
from distillery_operator.decide.canary.abort import abort_canary
from distillery_operator.decide.retries import was_refused
from distillery_operator.decide.status import canary_status, finish, set_canary_progressing
from distillery_operator.decide.steps.stages import running_jobs, set_failed
from distillery_operator.model import conditions as kinds
from distillery_operator.model import reasons
from distillery_operator.model.conditions import Conditions
from distillery_operator.model.decision import Decision
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed
from distillery_operator.model.phases import RunPhase

_REASONS_OF_FAILURE = {
    reasons.Accepted.INVALID_SPEC: reasons.Failed.INVALID_SPEC,
    reasons.Accepted.NOT_ALLOWED: reasons.Failed.NOT_ALLOWED,
}


def reject(error: InvalidRun, body: Manifest, status: Mapping[str, Any], observed: Observed, now: datetime) -> Decision:
    """Return the decision about a run whose specification is invalid, or not allowed on the cluster.

    A run that was accepted before stays as it is until the user fixes the specification, except that a canary is
    aborted.

    Args:
        error: what is wrong.
        body: the run as the API server has it.
        status: its status as the controller wrote it last.
        observed: the run's objects.
        now: the time, with its zone.
    """
    reason, message = _explain(error)
    conditions = Conditions.of(body, status, now).set(kinds.ACCEPTED, False, reason, message)
    fields = {key: value for key, value in status.items() if key != "progress"}
    if not (error.is_newer or (status.get("phase") and not was_refused(status))):
        conditions = set_failed(conditions, _REASONS_OF_FAILURE[reason], message)
        return Decision(status=finish(fields, conditions, RunPhase.FAILED, message))
    decision = Decision()
    if aborted := abort_canary(body, status, observed, now):
        canary_plan, decision = aborted
        fields["serving"] = canary_status(fields["serving"], canary_plan)
        conditions = set_canary_progressing(conditions, canary_plan)
    stops = reason is reasons.Accepted.NOT_ALLOWED and body["spec"].get("suspend")
    return replace(
        decision,
        delete=(*decision.delete, *(running_jobs(observed) if stops else ())),
        status=finish(fields, conditions, status.get("phase", RunPhase.PENDING), message),
    )


def _explain(error: InvalidRun) -> tuple[reasons.Accepted, str]:
    """Return the reason why a specification is not accepted, and a message."""
    if error.is_newer:
        upgrade = "The CRD is newer than the operator: upgrade the operator; the run then continues by itself."
        return reasons.Accepted.UNKNOWN_FIELD, f"{error}\n{upgrade}"
    forbidden = isinstance(error, CannotRun)
    return reasons.Accepted.NOT_ALLOWED if forbidden else reasons.Accepted.INVALID_SPEC, str(error)
