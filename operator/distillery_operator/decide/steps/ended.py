"""The care for a run that ended: its student is still served, and its Jobs are deleted after their time. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from distillery_operator.decide.context import Changes, Context
from distillery_operator.decide.problems import find_refusals
from distillery_operator.decide.releases import keep_template
from distillery_operator.decide.steps.provision import accounts, has_own_database
from distillery_operator.decide.steps.stages import set_failed, unblock, with_configuration
from distillery_operator.manifests import database, jobs
from distillery_operator.model import conditions as kinds
from distillery_operator.model.names import RunRef
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed, job_condition, stage_of


def keep_database(context: Context) -> Changes:
    """Apply the database. Once the run is complete, it runs only while something writes to it."""
    run, observed = context.run, context.observed
    if not has_own_database(run):
        return Changes()
    manifests: list[Manifest] = [database.network_policy(run)]  # feedback decides whether recorders are let in
    if context.conditions.is_true(kinds.COMPLETE):
        needed = _needs_database(context)
        server = observed.stateful_sets.get(database.name(run))
        runs = server is not None and database.STOPPED_ANNOTATION not in server["metadata"].get("annotations", {})
        if needed or runs:
            server = database.stateful_set(run, context.settings, replicas=int(needed))
            manifests.append(keep_template(server, run, context.status, observed))
    return Changes(apply=tuple(manifests))


def keep_account(context: Context) -> Changes:
    """Apply the account of the pods that serve. A watch can miss a deletion, so the run is reconciled now and then."""
    if "serving" not in context.status:
        return Changes()
    return Changes(apply=tuple(accounts(context.run)), requeue=context.settings.heal_seconds)


def report_end(context: Context) -> Changes:
    """Report the end of the run, and what the API server refuses of its servers."""
    conditions, requeue = unblock(context.conditions), None
    if refused := next(iter(find_refusals(context.observed)), None):
        conditions = context.conditions.set(kinds.STALLED, True, refused.reason, refused.message)
        requeue = context.settings.resync_seconds
    elif failed := context.conditions.find_true(kinds.FAILED):
        conditions = set_failed(context.conditions, failed["reason"], failed["message"])
    phase: str = context.status["phase"]
    # the message of the status may still say why the specification was not accepted
    end = conditions.find(phase)
    return Changes(conditions=conditions, phase=phase, message=end["message"] if end else "", requeue=requeue)


def delete_old_jobs(context: Context) -> Changes:
    """Delete the Jobs of the run and their configurations, once their time is over. The Job of the history stays."""
    seconds, observed = context.run.run.spec.ttl_seconds_after_finished, context.observed
    if seconds is None or not observed.jobs:
        return Changes()
    due = datetime.fromisoformat(context.status["completionTime"]) + timedelta(seconds=seconds)
    if context.now < due:
        return Changes(requeue=(due - context.now).total_seconds())
    old = (job for job in observed.jobs.values() if stage_of(job) != jobs.HISTORY)
    return Changes(delete=tuple(deletion for job in old for deletion in with_configuration(job)))


def _needs_database(context: Context) -> bool:
    """Return whether something still writes to the database: a recorder, or the Job of the history."""
    if "serving" not in context.status:
        return False
    has_feedback = context.run.run.spec.serving.feedback is not None
    return has_feedback or not _is_kept(context.run, context.observed, context.status["serving"]["history"])


def _is_kept(run: RunRef, observed: Observed, history: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the database has all of what was served, or the Job that writes it has failed."""
    job = observed.jobs.get(jobs.history_name(run, history))
    return job is not None and bool(job_condition(job, "Complete") or job_condition(job, "Failed"))
