"""The restart of a run's stages. Pure.

A new value of the annotation ``distillery.dev/retry-requested`` starts the failed ones again; the status keeps the
value that was acted on. The Jobs of failed attempts stay, for their logs; another attempt is another Job. As long as
nothing but ``prepare`` has started, a change of what is learned starts that again. And where the number of held-out
tasks grows, what depends on it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distillery.core.api import RETRY_ANNOTATION, DistillationRun
from distillery.core.api.learned import digest_of_learned
from distillery.core.planner import Kind, StageId, StageResult
from distillery.core.planner.graph import PREPARE
from distillery_operator.crd.status_schema import MAX_REQUEST
from distillery_operator.manifests.jobs import HISTORY, MIGRATE
from distillery_operator.model import conditions as kinds
from distillery_operator.model import reasons
from distillery_operator.model.conditions import Conditions, find_true
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.model.observed import Observed, job_condition, stage_of
from distillery_operator.model.rounds import read_rounds

_FAILED_BEFORE_START = (reasons.Failed.INVALID_SPEC, reasons.Failed.NOT_ALLOWED)


def find_request(body: Manifest, status: Mapping[str, Any]) -> str:
    """Return the request to retry that was not acted on yet; empty if there is none."""
    requested: str = body["metadata"].get("annotations", {}).get(RETRY_ANNOTATION, "")[:MAX_REQUEST]
    return "" if requested == status.get("retryRequest", "") else requested


def starts_over(run: DistillationRun, status: Mapping[str, Any]) -> bool:
    """Return whether the learned digest has changed, which is possible until a stage other than ``prepare`` starts."""
    recorded = status.get("learnedDigest")
    return bool(recorded) and recorded != digest_of_learned(run) and not has_begun(status)


def learned_digest(status: Mapping[str, Any]) -> str:
    """Return the digest of what the run learns, once that can't change any more; empty before."""
    return status.get("learnedDigest", "") if has_begun(status) else ""


def has_begun(status: Mapping[str, Any]) -> bool:
    """Return whether a stage other than ``prepare`` has started; the rules of the CRD say the same in CEL."""
    return bool(status.get("rounds")) or any(record["name"] != str(PREPARE) for record in status.get("stages", []))


def was_refused(status: Mapping[str, Any]) -> bool:
    """Return whether the run failed before it started, because its specification was invalid or not allowed."""
    failed = find_true(status.get("conditions", []), kinds.FAILED)
    return failed is not None and failed["reason"] in _FAILED_BEFORE_START


def outgrown_round(run: DistillationRun, status: Mapping[str, Any]) -> int:
    """Return the last round that ended, if it is to be judged again on more held-out tasks; else 0."""
    rounds = list(read_rounds(status).values())
    if not rounds or rounds[-1].promotion.promoted:
        return 0
    promote = str(StageId(rounds[-1].round, Kind.PROMOTE))
    results = [record.get("result", {}) for record in status.get("stages", []) if record["name"] == promote]
    judged_on = StageResult.read(results[0]).held_out_tasks if results else None
    return 0 if judged_on in (None, run.spec.environment.tasks.evaluate) else rounds[-1].round


def reopen(run: DistillationRun, status: dict[str, Any], conditions: Conditions) -> tuple[dict[str, Any], Conditions]:
    """Return a status and conditions in which a round that has to be judged again has not ended."""
    if not (outgrown := outgrown_round(run, status)):
        return status, conditions
    status = {**status, "rounds": [ended for ended in status["rounds"] if ended["round"] != outgrown]}
    if conditions.is_true(kinds.COMPLETE):
        status.pop("completionTime", None)
    message = f"spec.environment.tasks.evaluate grew: round {outgrown} is judged again."
    return status, conditions.clear(kinds.COMPLETE, reasons.Complete.TASKS_ADDED, message)


def resume(status: dict[str, Any], conditions: Conditions, request: str) -> tuple[dict[str, Any], Conditions]:
    """Return a status and conditions in which failed stages start again.

    Args:
        status: the run's.
        conditions: the run's.
        request: the user's request to retry; empty if the specification changed instead.
    """
    if request:
        status = {**status, "retryRequest": request}
    if conditions.is_true(kinds.FAILED):
        status = {key: value for key, value in status.items() if key != "completionTime"}
    reason = reasons.Failed.RETRY_REQUESTED if request else reasons.Failed.SPEC_CHANGED
    return status, conditions.clear(kinds.FAILED, reason, "What failed starts again.")


def learned_status(run: DistillationRun, status: Mapping[str, Any]) -> dict[str, str]:
    """Return the digest of what the run learns, as long as it can change; an earlier release did not keep it at all."""
    if has_begun(status) and "learnedDigest" in status:
        return {}
    return {"learnedDigest": digest_of_learned(run)}


def find_failed_helpers(observed: Observed) -> tuple[tuple[ObjectRef, str], ...]:
    """Return the failed Jobs that are no stages. They have the same names each time, so they have to go first."""
    return tuple(
        (ObjectRef.to(job), job["metadata"]["uid"])
        for job in observed.jobs.values()
        if stage_of(job) in (MIGRATE, HISTORY)
        and job_condition(job, "Failed")
        and not job["metadata"].get("deletionTimestamp")
    )
