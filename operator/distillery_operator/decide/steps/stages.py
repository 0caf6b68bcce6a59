"""The stages of a run: which Jobs start, and which stop. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from distillery.core.planner import Stage, StageId, StageState
from distillery_operator.decide.context import Changes, Context
from distillery_operator.decide.stage_records import StageRecord
from distillery_operator.decide.status import started_status
from distillery_operator.decide.steps.provision import migrate
from distillery_operator.manifests import jobs
from distillery_operator.model import conditions as kinds
from distillery_operator.model import reasons
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.model.observed import Observed, job_condition, stage_of
from distillery_operator.model.phases import RunPhase, StagePhase
from distillery_operator.polling import FAILURES_SECONDS


def advance(context: Context) -> Changes:
    """Start stages, or else say why none starts: the run is paused, waits for failures, or is complete."""
    if context.requests.pauses_stages and context.plan.phase != RunPhase.COMPLETE:
        return _pause(context)
    if context.conditions.find(kinds.SUSPENDED):
        message = "The run continues."
        resumed = context.conditions.set(kinds.SUSPENDED, False, reasons.Suspended.RESUMED, message)
        context = context.after(Changes(conditions=resumed))
    match context.plan.phase:
        case RunPhase.COMPLETE:
            return _complete(context)
        case RunPhase.WAITING:
            return _wait(context)
        case _:
            return _start(context)


def stop_stages(context: Context) -> Changes:
    """Delete the Jobs of running stages. Their pods save what the stages need to resume."""
    return Changes(delete=running_jobs(context.observed))


def running_jobs(observed: Observed) -> tuple[tuple[ObjectRef, str], ...]:
    """Return the Jobs that have not ended, to be deleted.

    Their configurations are deleted too: the next ones have the same names, and perhaps other settings.
    """
    return tuple(
        deletion
        for job in observed.jobs.values()
        if not job_condition(job, "Complete")
        and not job_condition(job, "Failed")
        and not job["metadata"].get("deletionTimestamp")
        for deletion in with_configuration(job)
    )


def fail(context: Context) -> Changes:
    """Report that a stage failed for good."""
    message = f"{context.plan.message} Fix the cause; to resume: distillery retry {context.run.run.key}"
    conditions = set_failed(context.conditions, reasons.Failed.STAGE_FAILED, message)
    return Changes(conditions=conditions, phase=RunPhase.FAILED, message=message)


def suspend(context: Context) -> Changes:
    """Report that the user suspended the run."""
    message = "Suspended by spec.suspend: what is done stays done, and resuming the run continues from there."
    conditions = context.conditions.set(kinds.SUSPENDED, True, reasons.Suspended.SUSPENDED, message)
    return Changes(conditions=unblock(conditions), phase=RunPhase.SUSPENDED, message=message)


def set_failed(conditions: kinds.Conditions, reason: str, message: str) -> kinds.Conditions:
    """Return the conditions of a run that failed. It is stalled, too, which is what kstatus reads."""
    return conditions.set(kinds.FAILED, True, reason, message).set(kinds.STALLED, True, reason, message)


def unblock(conditions: kinds.Conditions) -> kinds.Conditions:
    """Return the conditions of a run that nothing keeps from continuing."""
    message = "Nothing keeps the run from continuing any more."
    return conditions.clear(kinds.STALLED, reasons.Stalled.UNBLOCKED, message)


def with_configuration(job: Manifest) -> Iterator[tuple[ObjectRef, str]]:
    """Yield a Job and, for a stage, its configuration, which has the same name."""
    reference = ObjectRef.to(job)
    yield reference, job["metadata"]["uid"]
    if stage_of(job) not in (jobs.MIGRATE, jobs.HISTORY):
        yield ObjectRef("v1", "ConfigMap", reference.namespace, reference.name), ""


def _pause(context: Context) -> Changes:
    """Let running stages finish, and start none. Servers stay."""
    running = ", ".join(str(sid) for sid in context.plan.running)
    finish = f" Running: {running}." if running else ""
    command = f"distillery resume {context.run.run.key} --stages"
    message = f"Stages are paused, and none starts.{finish} To resume: {command}"
    return Changes(
        conditions=context.conditions.set(kinds.SUSPENDED, True, reasons.Suspended.PAUSED, message),
        phase=RunPhase.RUNNING if running else RunPhase.SUSPENDED,
        message=message,
    )


def _complete(context: Context) -> Changes:
    """Complete the run, once its student is served, if it has one."""
    serving = context.conditions.find(kinds.SERVING)
    waits = serving is not None and serving["reason"] == reasons.Serving.ROLLING_OUT
    if waits and context.run.run.spec.serving.replicas:
        message = "Waiting for the promoted student's servers."
        return Changes(conditions=context.conditions, phase=RunPhase.RUNNING, message=message)
    message = context.plan.message
    conditions = unblock(context.conditions).set(kinds.COMPLETE, True, reasons.Complete.ROUNDS_ENDED, message)
    return Changes(conditions=conditions, phase=RunPhase.COMPLETE, message=message)


def _wait(context: Context) -> Changes:
    """Wait for failures of users. The status has no number of them, because each change would be a write."""
    message = context.plan.message
    if "serving" not in context.status:
        message += " Nothing is served that could fail: spec.serving.pinnedRound: 0 serves the base model."
    elif context.run.run.spec.serving.replicas == 0:
        message += " No pod counts them while spec.serving.replicas is 0: write 1 or more."
    return Changes(conditions=context.conditions, phase=RunPhase.WAITING, message=message, requeue=FAILURES_SECONDS)


def _start(context: Context) -> Changes:
    """Start the stages that the plan starts, once the database has its schema."""
    migration = migrate(context)
    if migration.message:
        conditions = migration.conditions or context.conditions
        return Changes(
            create=migration.create, conditions=conditions, phase=RunPhase.RUNNING, message=migration.message
        )
    create: list[Manifest] = []
    records: list[StageRecord] = []
    for stage in context.plan.start:
        record = context.stages.records.get(stage.id, StageRecord(str(stage.id)))
        name = jobs.job_name(context.run, stage.id, record.attempts)
        if name not in context.observed.jobs:  # else it is being deleted, after a suspension
            create += _stage_objects(context, stage, name)
            now = context.conditions.now
            records.append(StageRecord(record.name, StagePhase.RUNNING, record.attempts, name, start_time=now))
    return Changes(
        create=tuple(create),
        status=started_status(context.status, records),
        conditions=migration.conditions,
        phase=RunPhase.RUNNING,
        message=context.plan.message,
    )


def _stage_objects(context: Context, stage: Stage, name: str) -> tuple[Manifest, Manifest]:
    """Return the configuration and the Job of a stage."""
    digest = _player_digest(stage, context.stages.states)
    retry: str = context.status.get("retryRequest", "")
    return (
        jobs.config_map(context.run, stage, name, digest=digest, retry=retry),
        jobs.stage_job(context.run, stage, name, context.settings, digest=digest),
    )


def _player_digest(stage: Stage, states: Mapping[StageId, StageState]) -> str:
    """Return the digest of the adapter of the student that plays in a stage; empty if none does."""
    trained_by = stage.player.trained_by if stage.player else None
    if trained_by is None:
        return ""
    return states[trained_by].result.student or ""
