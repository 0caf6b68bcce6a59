"""The restart of a run's stages: when, and how. Pure.

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
from distillery.core.planner import Kind, StageId, StageState
from distillery.core.planner.graph import PREPARE
from distillery.core.planner.plan import find_outgrown
from distillery_operator.crd.status_schema import MAX_REQUEST
from distillery_operator.manifests.jobs import HISTORY, MIGRATE
from distillery_operator.model import conditions, reasons
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.model.observed import Observed, job_condition, stage_of

_REJECTED = (reasons.Failed.INVALID_SPEC, reasons.Failed.NOT_ALLOWED)


def find_request(body: Manifest, status: Mapping[str, Any]) -> str:
    """Return the request to retry that was not acted on yet; empty if there is none."""
    requested: str = body["metadata"].get("annotations", {}).get(RETRY_ANNOTATION, "")[:MAX_REQUEST]
    return "" if requested == status.get("retryRequest", "") else requested


def starts_over(run: DistillationRun, status: Mapping[str, Any]) -> bool:
    """Return whether the learned digest has changed, which is possible until a stage other than ``prepare`` starts."""
    known = status.get("learnedDigest")
    return bool(known) and known != digest_of_learned(run) and not has_begun(status)


def learned_digest(status: Mapping[str, Any]) -> str:
    """Return the digest of what the run learns, once that can't change any more; empty before."""
    return status.get("learnedDigest", "") if has_begun(status) else ""


def has_begun(status: Mapping[str, Any]) -> bool:
    """Return whether a stage other than ``prepare`` has started; the rules of the CRD say the same in CEL."""
    return bool(status.get("rounds")) or any(record["name"] != str(PREPARE) for record in status.get("stages", []))


def was_refused(status: Mapping[str, Any]) -> bool:
    """Return whether the run failed before it started, because its specification was invalid or not allowed."""
    failed = conditions.find_true(status.get("conditions", []), conditions.FAILED)
    return failed is not None and failed["reason"] in _REJECTED


def start_again(records: dict[str, dict[str, Any]]) -> list[str]:
    """Advance the records of failed stages to their next attempts, and return the names of the stages."""
    names = [name for name, record in records.items() if record.get("phase") == "Failed"]
    for name in names:
        records[name] = {"name": name, "phase": "Pending", "attempts": records[name].get("attempts", 1) + 1}
    return names


def outgrown_round(run: DistillationRun, status: Mapping[str, Any]) -> int:
    """Return the last round that ended, if it is to be judged again on more held-out tasks; else 0."""
    rounds, wanted = status.get("rounds", []), run.spec.environment.tasks.evaluate
    if not rounds or rounds[-1]["promoted"]:
        return 0
    number: int = rounds[-1]["round"]
    records = {record["name"]: record for record in status.get("stages", [])}
    judged = records.get(str(StageId(number, Kind.PROMOTE)), {}).get("result", {})
    return 0 if judged.get("heldOutTasks", wanted) == wanted else number


def judge_again(run: DistillationRun, states: dict[StageId, StageState], records: dict[str, dict[str, Any]]) -> None:
    """Advance the records of stages that know of fewer held-out tasks to their next attempts."""
    for sid in find_outgrown(run.spec, states):
        del states[sid]
        attempts = records[str(sid)].get("attempts", 1)
        records[str(sid)] = {"name": str(sid), "phase": "Pending", "attempts": attempts + 1}


def failed_helpers(observed: Observed) -> tuple[tuple[ObjectRef, str], ...]:
    """Return the failed Jobs that are no stages. They have the same names each time, so they have to go first."""
    return tuple(
        (ObjectRef.to(job), job["metadata"]["uid"])
        for job in observed.jobs.values()
        if stage_of(job) in (MIGRATE, HISTORY)
        and job_condition(job, "Failed")
        and not job["metadata"].get("deletionTimestamp")
    )
