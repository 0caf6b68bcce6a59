"""The serving of a student: which one, by which objects, and what the database keeps of it. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from distillery.core.contracts.routing import RoutingConfig
from distillery_operator.decide.canary.plan import (
    CanaryContext,
    CanaryPlan,
    list_leftovers,
    plan_canary,
    seconds_to_next_poll,
)
from distillery_operator.decide.canary.pods import list_outdated_pods, observe_rollout
from distillery_operator.decide.canary.route import count_canary_servers
from distillery_operator.decide.canary.target import NoSuchStudent, ServingTarget, find_stable, select_target
from distillery_operator.decide.context import Changes, Context
from distillery_operator.decide.releases import keep_template
from distillery_operator.decide.replicas import (
    leave_replicas_to_autoscaler,
    pauses_servers,
    with_replicas,
    with_replicas_in_effect,
)
from distillery_operator.decide.status import (
    ServingState,
    serving_condition,
    serving_status,
    set_canary_progressing,
)
from distillery_operator.manifests import canary_servers, gateway, jobs, servers
from distillery_operator.model import conditions as kinds
from distillery_operator.model import reasons
from distillery_operator.model.conditions import Conditions
from distillery_operator.model.decision import sooner
from distillery_operator.model.names import RunRef
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.model.observed import stage_of
from distillery_operator.polling import rollout_seconds

_MIN_SERVED_SECONDS = 30.0  # before the database keeps that a student was served


def serve(context: Context) -> Changes:
    """Serve the student that the user pinned, or else the one promoted last; nothing before there is one."""
    paused = not context.has_ended and pauses_servers(context.run.run.spec, context.plan.phase)
    run = with_replicas(context.run, 0) if paused else with_replicas_in_effect(context.run, context.observed)
    missing = ""
    try:
        target = select_target(run.run.spec, context.plan, context.status, pinned_by=context.requests.pinned_by)
    except NoSuchStudent as error:
        stable, missing = find_stable(context.status), str(error)
        if stable is None:
            not_found = reasons.Serving.STUDENT_NOT_FOUND
            return Changes(conditions=context.conditions.set(kinds.SERVING, False, not_found, missing))
        target = replace(stable, reason=missing)  # a pinned round ends a canary, even if it does not exist
    return Changes() if target is None else _serve(context, run, target, missing=missing, paused=paused)


def _serve(context: Context, run: RunRef, target: ServingTarget, *, missing: str, paused: bool) -> Changes:
    observed, adapter = context.observed, servers.serves_adapters(run.run.spec)
    aborts = context.requests.aborts
    plan = plan_canary(CanaryContext(run, target, context.status, observed, context.now, abort_requested=aborts))
    stable = plan.stable
    document = gateway.routing_document(run, stable.model, stable.digest, adapter=adapter, canary=plan.route)
    generation = document.generation
    serving = ServingState(run, plan, observe_rollout(run, stable, generation, observed), missing, paused)
    conditions = set_canary_progressing(context.conditions, plan)
    conditions = conditions.set(kinds.SERVING, *serving_condition(serving))
    complete = serving.rollout.complete
    manifests = _manifests(context, run, plan, document)
    return Changes(
        apply=tuple(keep_template(manifest, run, context.status, observed) for manifest in manifests),
        annotate=tuple((ObjectRef.to(pod), generation) for pod in list_outdated_pods(generation, observed)),
        delete=list_leftovers(run, plan, observed, generation, complete=complete),
        status={"serving": serving_status(serving, context.status.get("serving", {}), conditions.now)},
        conditions=conditions,
        requeue=sooner(
            seconds_to_next_poll(plan, observed),
            _seconds_to_next_report(conditions) if adapter and not complete else None,
        ),
    )


def _manifests(context: Context, run: RunRef, plan: CanaryPlan, document: RoutingConfig) -> tuple[Manifest, ...]:
    stable, settings = plan.stable, context.settings
    deployment = servers.deployment(run, stable.model, stable.digest, settings)
    manifests: tuple[Manifest, ...] = (
        gateway.network_policy(run, settings),
        gateway.config_map(run, document),
        leave_replicas_to_autoscaler(deployment, run, context.observed),
        servers.service(run),
        servers.disruption_budget(run),
    )
    if plan.canary and not servers.serves_adapters(run.run.spec):
        canary, replicas = plan.canary, count_canary_servers(run, plan.status)
        manifests += canary_servers.manifests(run, canary.model, canary.digest, settings, replicas=replicas)
    return manifests


def _seconds_to_next_report(conditions: Conditions) -> float:
    serving = conditions.find(kinds.SERVING)
    assert serving is not None
    return rollout_seconds(
        datetime.fromisoformat(conditions.now) - datetime.fromisoformat(serving["lastTransitionTime"])
    )


def keep_history(context: Context) -> Changes:
    """Keep what was served in the database, by a Job; delete the Job before it.

    The Job is created once a stage has written the run to the database, and once what is served has settled: a student
    that is served for a moment needs no pod. The Job stays until another follows, and shows that nothing is left to do.
    """
    if "serving" not in context.status:
        return Changes()
    run, observed = context.run, context.observed
    history, stages = context.status["serving"]["history"], context.status["stages"]
    if not context.status["rounds"] and not any(record["phase"] == "Succeeded" for record in stages):
        return Changes()
    if jobs.history_name(run, history) in observed.jobs:
        return Changes()
    age = (context.now - datetime.fromisoformat(history[0]["time"])).total_seconds()
    if age < _MIN_SERVED_SECONDS:
        return Changes(requeue=_MIN_SERVED_SECONDS - age)
    before = (job for job in observed.jobs.values() if stage_of(job) == jobs.HISTORY)
    return Changes(
        create=(jobs.history_job(run, history, context.settings),),
        delete=tuple((ObjectRef.to(job), job["metadata"]["uid"]) for job in before),
    )


def keep_history_later(context: Context) -> Changes:
    """Do what :func:`keep_history` does, but create no Job: the run is suspended."""
    return replace(keep_history(context), create=())
