"""The serving of a student: which one, by which objects, and what the database keeps of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from distillery.core.planner import Plan
from distillery_operator.decide.canary import canary
from distillery_operator.decide.canary.routing import NoSuchStudent, choose, rollout, to_annotate
from distillery_operator.decide.releases import hold
from distillery_operator.decide.replicas import as_scaled, unscaled, with_replicas
from distillery_operator.decide.status import StatusWriter
from distillery_operator.manifests import canary_servers, database, gateway, jobs, servers
from distillery_operator.manifests.names import RunRef
from distillery_operator.model import conditions, reasons
from distillery_operator.model.decision import Decision, sooner
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.model.observed import Observed, job_condition, stage_of
from distillery_operator.settings import Settings

_SETTLED_SECONDS = 30.0  # that a student is served before it is kept for good that it was


def serve(
    owner: RunRef,
    current: Plan,
    observed: Observed,
    settings: Settings,
    decision: Decision,
    now: datetime,
    writer: StatusWriter,
    *,
    paused: bool = False,
) -> Decision:
    """Serve what is to be served, if there is anything; while ``paused`` by no pod."""
    lacks = ""
    owner = with_replicas(owner, 0) if paused else as_scaled(owner, observed)
    try:
        choice = choose(owner.run.spec, current, writer.status, pinned_by=writer.requests.pinned_by)
    except NoSuchStudent as error:
        incumbent, lacks = canary.incumbent_of(writer.status), str(error)
        if incumbent is None:
            writer.set(conditions.SERVING, False, reasons.Serving.STUDENT_NOT_FOUND, lacks)
            return decision
        choice = replace(incumbent, reason=lacks)  # a round that is named ends a canary, whether it is there or not
    if choice is None:
        return decision
    adapter = servers.serves_adapters(owner.run.spec)
    course = canary.plot(owner, choice, writer.status, observed, now, aborted=writer.requests.aborts)
    served = course.served
    wanted = gateway.desired(owner, served.model, served.digest, adapter=adapter, newcomer=course.guest)
    generation: int = wanted["generation"]
    how_far = rollout(owner, served, generation, observed)
    writer.serve(owner, course, how_far, lacks=lacks, paused=paused)
    manifests: tuple[Manifest, ...] = (
        gateway.network_policy(owner, settings),
        gateway.config_map(owner, wanted),
        unscaled(servers.deployment(owner, served.model, served.digest, settings), owner, observed),
        servers.service(owner),
        servers.disruption_budget(owner),
    )
    if course.newcomer and not adapter:
        tried, replicas = course.newcomer, canary.replicas_of(owner, course)
        manifests += canary_servers.manifests(owner, tried.model, tried.digest, settings, replicas=replicas)
    requeue = writer.seconds_to_ask_again() if adapter and not how_far.complete else None
    leaving = canary.to_delete(owner, course, observed, generation, complete=how_far.complete)
    history = _keep_history(owner, observed, settings, writer)
    return replace(
        decision,
        apply=(*decision.apply, *(hold(manifest, owner, writer.status, observed) for manifest in manifests)),
        annotate=tuple((ObjectRef.to(pod), generation) for pod in to_annotate(generation, observed)),
        create=(*decision.create, *history.create),
        delete=(*decision.delete, *history.delete, *leaving),
        requeue=sooner(canary.seconds_to_next_look(course, observed), requeue, history.requeue),
    )


def _keep_history(owner: RunRef, observed: Observed, settings: Settings, writer: StatusWriter) -> Decision:
    """A Job keeps in the database what was served; those before it go.

    It is created once a stage has told the database of the run, and when what is served has settled: who goes to and
    fro needs no pod for each time. It stays until another follows: that it is there says that nothing is to be done.
    """
    history, stages = writer.status["serving"]["history"], writer.status["stages"]
    if not writer.status["rounds"] and not any(record["phase"] == "Succeeded" for record in stages):
        return Decision()
    if jobs.history_name(owner, history) in observed.jobs:
        return Decision()
    age = (writer.now - datetime.fromisoformat(history[0]["time"])).total_seconds()
    if age < _SETTLED_SECONDS:
        return Decision(requeue=_SETTLED_SECONDS - age)
    former = (other for other in observed.jobs.values() if stage_of(other) == jobs.HISTORY)
    return Decision(
        create=(jobs.history_job(owner, history, settings),),
        delete=tuple((ObjectRef.to(other), other["metadata"]["uid"]) for other in former),
    )


def database_of_ended(
    owner: RunRef, observed: Observed, settings: Settings, writer: StatusWriter
) -> Iterator[Manifest]:
    """Yield the database of a run that ended: once the run is complete, it runs only where something writes to it."""
    yield database.network_policy(owner)  # whether recorders are among those that may come in can change still
    if not conditions.is_true(writer.conditions, conditions.COMPLETE):
        return
    needed = "serving" in writer.status and (
        owner.run.spec.serving.feedback is not None
        or not _is_kept(owner, observed, writer.status["serving"]["history"])
    )
    present = observed.stateful_sets.get(database.name(owner))
    if needed or (present and database.STOPPED_ANNOTATION not in present["metadata"].get("annotations", {})):
        wanted = database.stateful_set(owner, settings, replicas=int(needed))
        yield hold(wanted, owner, writer.status, observed)


def _is_kept(owner: RunRef, observed: Observed, history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the database has all of what was served; a Job that failed is not waited for."""
    job = observed.jobs.get(jobs.history_name(owner, history))
    return job is not None and bool(job_condition(job, "Complete") or job_condition(job, "Failed"))
