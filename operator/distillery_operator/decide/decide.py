"""The decision about a run: a pure function of the resource, its status and the observed objects.

:func:`decide` reads from top to bottom as the life of a run: it is checked, gets its account, volume and database,
its stages are started as the planner says, a student that passed the gate is served, and in the end it is complete or
failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from distillery.core.api import CannotRun, InvalidRun, parse
from distillery.core.api.rules import warning_of
from distillery.core.planner import Plan, Stage, StageId, StageState, plan
from distillery_operator.decide.allowed import find_forbidden
from distillery_operator.decide.canary.abort import withdraw
from distillery_operator.decide.problems import YOUTH, find_problem, find_refusals, suspects
from distillery_operator.decide.releases import choose_images, hold, with_images
from distillery_operator.decide.replicas import pauses
from distillery_operator.decide.requests import answer
from distillery_operator.decide.retries import (
    failed_helpers,
    find_request,
    judge_again,
    learned_digest,
    outgrown_round,
    start_again,
    starts_over,
    was_refused,
)
from distillery_operator.decide.serving import database_of_ended, serve
from distillery_operator.decide.status import SUSPICION_SECONDS, StatusWriter
from distillery_operator.manifests import database, jobs, storage
from distillery_operator.manifests.names import RunRef
from distillery_operator.manifests.pods import claim_name
from distillery_operator.model import conditions, reasons
from distillery_operator.model.decision import Decision, sooner
from distillery_operator.model.objects import Manifest, ObjectRef, rfc3339
from distillery_operator.model.observed import (
    Observed,
    is_result_lost,
    job_condition,
    recorded_states,
    stage_of,
    state_of_job,
)
from distillery_operator.settings import Settings

WAITING = "Waiting"
ASK_SECONDS = 20.0  # between two questions to recorders how many failures have gathered
_MAX_ATTEMPTS = 2  # at a stage whose result got lost; what failed is retried by its Job


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
    writer = StatusWriter(body, status, now)
    try:
        run = parse({key: value for key, value in body.items() if key != "status"})
        if forbidden := find_forbidden(run.spec, settings):
            raise CannotRun(forbidden)
    except InvalidRun as error:
        return _refuse(error, body, status, observed, now, writer)
    told = " ".join(filter(None, ("The resource is valid.", warning_of(run.spec))))
    writer.set(conditions.ACCEPTED, True, reasons.Accepted.VALID, told)
    if outgrown := outgrown_round(run, status):
        status = {**status, "rounds": status["rounds"][:-1]}
        writer.reopen(outgrown)
    complete = conditions.is_true(writer.conditions, conditions.COMPLETE)
    requests = answer(body, run, status, complete=complete, now=now)
    writer.answer(requests)
    run = requests.applied_to(run)
    owner = RunRef(run, body["metadata"]["uid"], learned_digest(status))
    writer.status |= choose_images(owner, body, status, observed, settings)
    settings = with_images(settings, writer.status["images"])

    request, restarts = find_request(body, status), starts_over(run, status)
    resumes = request or restarts or was_refused(status)
    if complete or (conditions.is_true(writer.conditions, conditions.FAILED) and not resumes):
        return _look_after(owner, status, observed, settings, now, writer)

    decision = replace(_provide(owner, observed, settings, writer), delete=_superseded_jobs(owner, observed))
    states, records = _stage_states(owner, status, observed, now)
    if restarts:
        states, records = {}, {}
    judge_again(run, states, records)
    if resumes:
        for name in start_again(records):
            del states[StageId.parse(name)]
        decision = replace(decision, delete=(*decision.delete, *failed_helpers(observed)))
        writer.resume(request)
    writer.note_learned(run)
    current = plan(run.spec, states, failures=observed.failures)
    writer.record(run, current, records, states)
    if current.phase == "Failed":
        message = f"{current.message} Fix the cause; to resume: distillery retry {run.key}"
        writer.fail(reasons.Failed.STAGE_FAILED, message)
        running = _running_jobs(observed)
        gone = (*decision.delete, *running)
        return replace(decision, create=(), delete=gone, status=writer.finish("Failed", message))

    paused = pauses(run.spec, current.phase)
    decision = serve(owner, current, observed, settings, decision, now, writer, paused=paused)
    if run.spec.suspend:
        message = "Suspended by spec.suspend: what is done stays done, and resuming the run continues from there."
        writer.set(conditions.SUSPENDED, True, reasons.Suspended.SUSPENDED, message)
        writer.unblock()
        gone = (*decision.delete, *_running_jobs(observed))
        return replace(decision, create=(), delete=gone, status=writer.finish("Suspended", message))
    if requests.pauses_stages and current.phase != "Complete":
        return _pause(owner, decision, current, observed, settings, writer)
    if conditions.find(writer.conditions, conditions.SUSPENDED):
        writer.set(conditions.SUSPENDED, False, reasons.Suspended.RESUMED, "The run continues.")

    if current.phase == "Complete":
        return _complete(owner, current, decision, observed, settings, writer)
    if current.phase == WAITING:
        return _wait(owner, decision, current, observed, settings, writer)
    decision, waits_for = _advance(owner, current, states, observed, settings, decision, records, writer)
    return _go_on(decision, waits_for or current.message, observed, settings, writer)


def _refuse(
    error: InvalidRun,
    body: Manifest,
    status: Mapping[str, Any],
    observed: Observed,
    now: datetime,
    writer: StatusWriter,
) -> Decision:
    """What becomes of a run whose specification can't be carried out.

    What may change was changed to what can't be: then all but a canary stays as it is until that is fixed.
    """
    told, forbidden = str(error), isinstance(error, CannotRun)
    reason = reasons.Accepted.NOT_ALLOWED if forbidden else reasons.Accepted.INVALID_SPEC
    if error.is_newer:
        told += "\nThe CRD is newer than the operator: upgrade the operator; the run then continues by itself."
        reason = reasons.Accepted.UNKNOWN_FIELD
    writer.set(conditions.ACCEPTED, False, reason, told)
    if error.is_newer or (status.get("phase") and not was_refused(status)):
        decision = Decision()
        if withdrawn := withdraw(body, status, observed, now):
            course, decision = withdrawn
            writer.try_out(course)
        stops = reason == reasons.Accepted.NOT_ALLOWED and body["spec"].get("suspend")
        stopped = _running_jobs(observed) if stops else ()
        refused = writer.finish(status.get("phase", "Pending"), told)
        return replace(decision, delete=(*decision.delete, *stopped), status=refused)
    writer.fail(reasons.Failed.NOT_ALLOWED if forbidden else reasons.Failed.INVALID_SPEC, told)
    return Decision(status=writer.finish("Failed", told))


def _pause(
    owner: RunRef, decision: Decision, current: Plan, observed: Observed, settings: Settings, writer: StatusWriter
) -> Decision:
    """The user paused the stages: those that run finish, and none starts. What is served stays."""
    running = ", ".join(str(sid) for sid in current.running)
    finish = f" Running: {running}." if running else ""
    message = f"Stages are paused, and none starts.{finish} To resume: distillery resume {owner.run.key} --stages"
    writer.set(conditions.SUSPENDED, True, reasons.Suspended.PAUSED, message)
    phase = "Running" if running else "Suspended"
    return _go_on(decision, message, observed, settings, writer, phase=phase)


def _go_on(
    decision: Decision,
    message: str,
    observed: Observed,
    settings: Settings,
    writer: StatusWriter,
    *,
    phase: str = "Running",
) -> Decision:
    """The run is under way: ``message`` says what with, unless something keeps it from getting on."""
    problem = find_problem(observed, writer.now - YOUTH)
    if problem:
        message = problem.message
        writer.set(conditions.STALLED, True, problem.reason, message)
    else:
        writer.unblock()
    worried = suspects(observed) or find_problem(observed)
    requeue = min(SUSPICION_SECONDS, settings.resync_seconds) if worried else settings.resync_seconds
    return replace(decision, status=writer.finish(phase, message), requeue=sooner(requeue, decision.requeue))


def _wait(
    owner: RunRef, decision: Decision, current: Plan, observed: Observed, settings: Settings, writer: StatusWriter
) -> Decision:
    """The next round waits for failures of users. How many there are is not told here: each would be a write."""
    message = current.message
    if "serving" not in writer.status:
        message += " Nothing is served that could fail: spec.serving.pinnedRound: 0 serves the base model."
    elif owner.run.spec.serving.replicas == 0:
        message += " No pod counts them while spec.serving.replicas is 0: write 1 or more."
    waiting = _go_on(decision, message, observed, settings, writer, phase=WAITING)
    return replace(waiting, requeue=sooner(ASK_SECONDS, waiting.requeue))


def _provide(owner: RunRef, observed: Observed, settings: Settings, writer: StatusWriter) -> Decision:
    """Account, volume, database and schema."""
    spec = owner.run.spec
    wanted: list[Manifest] = [jobs.network_policy(owner, settings), *_account(owner)]
    if spec.storage.uri is None:
        wanted.append(storage.claim(owner, observed.claims.get(claim_name(owner))))
    own_database = spec.database.dsn_secret_ref is None
    if own_database:
        wanted += [
            database.network_policy(owner),
            database.service(owner),
            hold(database.stateful_set(owner, settings), owner, writer.status, observed),
        ]
    secret = own_database and database.name(owner) not in observed.stateful_sets
    return Decision(secret=secret, apply=tuple(wanted))


def _account(owner: RunRef) -> list[Manifest]:
    """The account of the run's pods, unless the run names another."""
    return [storage.service_account(owner)] if owner.run.spec.pod_template.service_account_name is None else []


def _stage_states(
    owner: RunRef, status: Mapping[str, Any], observed: Observed, now: datetime
) -> tuple[dict[StageId, StageState], dict[str, dict[str, Any]]]:
    """How every stage stands, and the records of the stages of the present round to be kept in the status."""
    status = {**status, "stages": _current_records(owner, status)}
    states = recorded_states(owner.run.spec, status)
    records: dict[str, dict[str, Any]] = {r["name"]: dict(r) for r in status["stages"]}
    for job in observed.jobs.values():
        name = stage_of(job)
        if name in (jobs.MIGRATE, jobs.HISTORY) or job["metadata"].get("deletionTimestamp"):
            continue
        if jobs.is_superseded(owner, job):
            continue
        sid = StageId.parse(name)
        if sid in states:
            continue
        record = records.setdefault(name, {"name": name, "attempts": 1})
        attempt = record.get("attempts", 1)
        if record.get("job", jobs.job_name(owner, sid, attempt)) != job["metadata"]["name"]:
            continue  # an earlier attempt
        timeout = f"spec.stages.{sid.kind}.timeoutSeconds"
        pods = observed.pods_of(job["metadata"]["name"])
        state = state_of_job(job, pods, attempt=attempt, timeout_field=timeout, now=now)
        if is_result_lost(job, state) and attempt < _MAX_ATTEMPTS:
            # what it did is in the store and in the database: another attempt only tells it again
            record |= {"attempts": attempt + 1, "phase": "Running"}
            record.pop("job", None)
            continue
        states[sid] = state
        record |= {
            "phase": {"running": "Running", "succeeded": "Succeeded", "failed": "Failed"}[state.phase],
            "job": job["metadata"]["name"],
            "startTime": record.get("startTime") or job["metadata"].get("creationTimestamp") or rfc3339(now),
        }
        if state.phase != "running":
            ended = job.get("status", {}).get("completionTime")
            record["completionTime"] = record.get("completionTime") or ended or rfc3339(now)
        if state.message:
            record["message"] = state.message
        if state.result is not None:
            record["result"] = dict(state.result)
    return states, records


def _current_records(owner: RunRef, status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The records of stages without those of what the run no longer learns: they are done again."""
    return [record for record in status.get("stages", []) if owner.identity.wrote(record.get("result"))]


def _superseded_jobs(owner: RunRef, observed: Observed) -> tuple[tuple[ObjectRef, str], ...]:
    """The Jobs that do what the run no longer learns."""
    return tuple(
        (ObjectRef.to(job), job["metadata"]["uid"])
        for job in observed.jobs.values()
        if jobs.is_superseded(owner, job) and not job["metadata"].get("deletionTimestamp")
    )


def _advance(
    owner: RunRef,
    current: Plan,
    states: Mapping[StageId, StageState],
    observed: Observed,
    settings: Settings,
    decision: Decision,
    records: Mapping[str, Mapping[str, Any]],
    writer: StatusWriter,
) -> tuple[Decision, str]:
    """Start what the plan starts, once there is a database with its schema; else say what is waited for."""
    spec = owner.run.spec
    if spec.database.dsn_secret_ref is None:
        server = observed.stateful_sets.get(database.name(owner), {})
        if not server.get("status", {}).get("readyReplicas"):
            writer.set(conditions.DATABASE_READY, False, reasons.DatabaseReady.STARTING, "The database is starting.")
            return decision, "Waiting for the database to start."
    migration = observed.jobs.get(jobs.migration_name(owner, settings))
    if migration is None and current.running:
        # by another image, which may not know the schema that this one brings
        return decision, "Waiting for the stages of the former image before the schema is brought up."
    if migration is None:
        writer.set(conditions.DATABASE_READY, False, reasons.DatabaseReady.MIGRATING, "The schema is brought up.")
        migration = jobs.migration_job(owner, settings)
        return replace(decision, create=(*decision.create, migration)), "Bringing the schema up."
    if job_condition(migration, "Failed"):
        message = (
            f"The schema could not be brought up: see the log of the Job {migration['metadata']['name']}. "
            f"Fix the cause; to resume: distillery retry {owner.run.key}"
        )
        writer.set(conditions.DATABASE_READY, False, reasons.DatabaseReady.MIGRATION_FAILED, message)
        return decision, message
    if not job_condition(migration, "Complete"):
        writer.set(conditions.DATABASE_READY, False, reasons.DatabaseReady.MIGRATING, "The schema is brought up.")
        return decision, "Bringing the schema up."
    ready = "The database is there, and its schema is up to date."
    writer.set(conditions.DATABASE_READY, True, reasons.DatabaseReady.READY, ready)

    room = max(0, spec.stages.max_parallel - len(current.running))
    create: list[Manifest] = []
    for stage in current.start[:room]:
        attempt = records.get(str(stage.id), {}).get("attempts", 1)
        name = jobs.job_name(owner, stage.id, attempt)
        if name in observed.jobs:
            continue  # on its way out, after a suspension
        digest = _digest(stage, states)
        retry: str = writer.status.get("retryRequest", "")
        create.append(jobs.config_map(owner, stage, name, digest=digest, retry=retry))
        create.append(jobs.stage_job(owner, stage, name, settings, digest=digest))
        writer.start(stage, name, attempt)
    return replace(decision, create=(*decision.create, *create)), ""


def _digest(stage: Stage, states: Mapping[StageId, StageState]) -> str:
    """The digest of the adapter of the student that plays in a stage; empty if none does."""
    trained_by = stage.player.trained_by if stage.player else None
    if trained_by is None:
        return ""
    result = states[trained_by].result or {}
    return str(result.get("student") or "")


def _complete(
    owner: RunRef,
    current: Plan,
    decision: Decision,
    observed: Observed,
    settings: Settings,
    writer: StatusWriter,
) -> Decision:
    """All rounds ended: the run is complete once its student, if it has one, is served."""
    serving = conditions.find(writer.conditions, conditions.SERVING)
    waits = serving is not None and serving["reason"] == reasons.Serving.ROLLING_OUT
    if waits and owner.run.spec.serving.replicas:
        return _go_on(decision, "Waiting for the promoted student's servers.", observed, settings, writer)
    writer.unblock()
    writer.set(conditions.COMPLETE, True, reasons.Complete.ROUNDS_ENDED, current.message)
    return replace(decision, status=writer.finish("Complete", current.message))


def _look_after(
    owner: RunRef,
    status: Mapping[str, Any],
    observed: Observed,
    settings: Settings,
    now: datetime,
    writer: StatusWriter,
) -> Decision:
    """A run that ended: its student is served on, and its Jobs go after their time."""
    states = recorded_states(owner.run.spec, status)
    decision = Decision()
    if status.get("rounds"):
        current = plan(owner.run.spec, states)
        decision = serve(owner, current, observed, settings, decision, now, writer)
        if owner.run.spec.database.dsn_secret_ref is None:
            decision = replace(decision, apply=(*decision.apply, *database_of_ended(owner, observed, settings, writer)))
        if "serving" in writer.status:
            # a watch can miss a deletion: what is gone comes back at the next look
            kept = (*decision.apply, *_account(owner))
            decision = replace(decision, apply=kept, requeue=sooner(settings.heal_seconds, decision.requeue))
    ttl, requeue = owner.run.spec.ttl_seconds_after_finished, decision.requeue
    if refused := next(iter(find_refusals(observed)), None):
        writer.set(conditions.STALLED, True, refused.reason, refused.message)
        requeue = sooner(settings.resync_seconds, requeue)
    elif failed := conditions.find_true(writer.conditions, conditions.FAILED):
        writer.fail(failed["reason"], failed["message"])
    else:
        writer.unblock()
    if ttl is not None and observed.jobs:
        due = datetime.fromisoformat(status["completionTime"]) + timedelta(seconds=ttl)
        if now >= due:
            decision = replace(decision, delete=(*decision.delete, *_leftovers(observed)))
        else:
            requeue = sooner((due - now).total_seconds(), requeue)
    phase: str = status["phase"]
    ended = conditions.find(writer.conditions, phase)
    message = ended["message"] if ended else ""  # the status may still say why the specification was not accepted
    return replace(decision, status=writer.finish(phase, message), requeue=requeue)


def _running_jobs(observed: Observed) -> list[tuple[ObjectRef, str]]:
    """The stages' Jobs that have not ended: their pods are told to stop, and save what they need to resume.

    Their configurations go too: those that take their places have the same names, and perhaps other settings.
    """
    return [
        deletion
        for job in observed.jobs.values()
        if not job_condition(job, "Complete")
        and not job_condition(job, "Failed")
        and not job["metadata"].get("deletionTimestamp")
        for deletion in _with_configuration(job)
    ]


def _leftovers(observed: Observed) -> list[tuple[ObjectRef, str]]:
    """The Jobs of a run that ended, and their configurations. Its history continues."""
    gone: list[tuple[ObjectRef, str]] = []
    for job in observed.jobs.values():
        if stage_of(job) != jobs.HISTORY:
            gone += _with_configuration(job)
    return gone


def _with_configuration(job: Manifest) -> Iterator[tuple[ObjectRef, str]]:
    """A Job and, of a stage, its configuration, which has the same name."""
    reference = ObjectRef.to(job)
    yield reference, job["metadata"]["uid"]
    if stage_of(job) not in (jobs.MIGRATE, jobs.HISTORY):
        yield ObjectRef("v1", "ConfigMap", reference.namespace, reference.name), ""
