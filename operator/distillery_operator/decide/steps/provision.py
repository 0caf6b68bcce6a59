"""The account, volume, database and schema that the stages of a run need. Pure."""

from __future__ import annotations

from distillery_operator.decide.context import Changes, Context
from distillery_operator.decide.releases import keep_template
from distillery_operator.decide.retries import find_failed_helpers
from distillery_operator.manifests import database, jobs, storage
from distillery_operator.manifests.pods import claim_name
from distillery_operator.model import conditions as kinds
from distillery_operator.model import reasons
from distillery_operator.model.names import RunRef
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.model.observed import job_condition


def provision(context: Context) -> Changes:
    """Apply the account, the volume and the database, and delete Jobs that are in the way of others."""
    run, observed = context.run, context.observed
    manifests: list[Manifest] = [jobs.network_policy(run, context.settings), *accounts(run)]
    if run.run.spec.storage.uri is None:
        manifests.append(storage.claim(run, observed.claims.get(claim_name(run))))
    if has_own_database(run):
        server = database.stateful_set(run, context.settings)
        manifests += [
            database.network_policy(run),
            database.service(run),
            keep_template(server, run, context.status, observed),
        ]
    superseded = tuple(
        (ObjectRef.to(job), job["metadata"]["uid"])
        for job in observed.jobs.values()
        if jobs.is_superseded(run, job) and not job["metadata"].get("deletionTimestamp")
    )
    return Changes(
        secret=has_own_database(run) and database.name(run) not in observed.stateful_sets,
        apply=tuple(manifests),
        delete=(*superseded, *(find_failed_helpers(observed) if context.resumes else ())),
    )


def accounts(run: RunRef) -> list[Manifest]:
    """Return the account of the run's pods, unless the run names another."""
    return [storage.service_account(run)] if run.run.spec.pod_template.service_account_name is None else []


def migrate(context: Context) -> Changes:
    """Start the Job that migrates the database, once there is one. A message says what stages wait for, if they do."""
    run, observed = context.run, context.observed
    if has_own_database(run):
        server = observed.stateful_sets.get(database.name(run), {})
        if not server.get("status", {}).get("readyReplicas"):
            starting = _set_database_ready(context, reasons.DatabaseReady.STARTING, "The database is starting.")
            return Changes(conditions=starting, message="Waiting for the database to start.")
    migration = observed.jobs.get(jobs.migration_name(run, context.settings))
    if migration is None and context.plan.running:
        # by another image, which may not know the schema that this one brings
        return Changes(message="Waiting for the stages of the former image before the schema is brought up.")
    if migration and job_condition(migration, "Failed"):
        message = (
            f"The schema could not be brought up: see the log of the Job {migration['metadata']['name']}. "
            f"Fix the cause; to resume: distillery retry {run.run.key}"
        )
        failed = _set_database_ready(context, reasons.DatabaseReady.MIGRATION_FAILED, message)
        return Changes(conditions=failed, message=message)
    if migration and job_condition(migration, "Complete"):
        message = "The database is there, and its schema is up to date."
        return Changes(conditions=_set_database_ready(context, reasons.DatabaseReady.READY, message))
    return Changes(
        create=() if migration else (jobs.migration_job(run, context.settings),),
        conditions=_set_database_ready(context, reasons.DatabaseReady.MIGRATING, "The schema is brought up."),
        message="Bringing the schema up.",
    )


def _set_database_ready(context: Context, reason: reasons.DatabaseReady, message: str) -> kinds.Conditions:
    ready = reason is reasons.DatabaseReady.READY
    return context.conditions.set(kinds.DATABASE_READY, ready, reason, message)


def has_own_database(run: RunRef) -> bool:
    """Return whether the operator runs the database of a run."""
    return run.run.spec.database.dsn_secret_ref is None
