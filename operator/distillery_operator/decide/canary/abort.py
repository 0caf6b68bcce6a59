"""The abort of a canary whose run can't be read: the stable student gets all traffic, for analysis can't run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from distillery.core.api import InvalidRun, parse
from distillery.core.api.learned import without_mutable
from distillery_operator.decide.canary.plan import (
    CanaryContext,
    CanaryPlan,
    list_leftovers,
    plan_canary,
    seconds_to_next_poll,
)
from distillery_operator.decide.canary.pods import has_syncer, list_outdated_pods
from distillery_operator.decide.canary.target import find_stable
from distillery_operator.decide.retries import learned_digest
from distillery_operator.manifests import gateway
from distillery_operator.model.decision import Decision
from distillery_operator.model.names import RunRef
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.model.observed import Observed


def abort_canary(
    body: Manifest, status: Mapping[str, Any], observed: Observed, now: datetime
) -> tuple[CanaryPlan, Decision] | None:
    """Send all traffic to the stable student; None if nothing is served, or not even the rest of the run can be read.

    The result is the same at every poll: the status does not show whether it was applied.

    Args:
        body: a run with a mistake in what may change.
        status: the run's.
        observed: the run's objects, which show how students are served.
        now: the time, with its zone.

    Returns:
        The plan for the status, and the decision, which lacks a status.
    """
    stable, deployment = find_stable(status), observed.deployments.get(body["metadata"]["name"])
    if stable is None or deployment is None:
        return None
    try:
        owner = RunRef(parse(_without_changes(body)), body["metadata"]["uid"], learned_digest(status))
    except InvalidRun:
        return None
    stable = replace(stable, reason="the specification is not accepted.")
    plan = plan_canary(CanaryContext(owner, stable, status, observed, now))
    adapter = has_syncer(deployment["spec"]["template"])
    document = gateway.routing_document(owner, stable.model, stable.digest, adapter=adapter)
    generation = document.generation
    return plan, Decision(
        apply=(gateway.config_map(owner, document),),
        annotate=tuple((ObjectRef.to(pod), generation) for pod in list_outdated_pods(generation, observed)),
        delete=list_leftovers(owner, plan, observed, generation, complete=False),
        requeue=seconds_to_next_poll(plan, observed),
    )


def _without_changes(body: Manifest) -> Manifest:
    """Return a run without what may have changed since it was created, and was valid."""
    return body | {"spec": without_mutable(body["spec"])}
