"""The abort of a canary whose run can't be read: the stable student gets all traffic, for analysis can't run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from distillery.core.api import InvalidRun, parse
from distillery.core.api.learned import without_mutable
from distillery_operator.decide.canary import canary
from distillery_operator.decide.canary.canary import Course
from distillery_operator.decide.canary.routing import has_syncer, to_annotate
from distillery_operator.decide.retries import learned_digest
from distillery_operator.manifests import gateway
from distillery_operator.manifests.names import RunRef
from distillery_operator.model.decision import Decision
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.model.observed import Observed


def withdraw(
    body: Manifest, status: Mapping[str, Any], observed: Observed, now: datetime
) -> tuple[Course, Decision] | None:
    """Send all traffic to the stable student; None if nothing is served, or not even the rest of the run can be read.

    The result is the same at every look: the status does not show whether it was applied.

    Args:
        body: a run with a mistake in what may change.
        status: the run's.
        observed: the run's objects, which show how students are served.
        now: the time, with its zone.

    Returns:
        The course for the status, and the decision, which lacks a status.
    """
    served, deployment = canary.incumbent_of(status), observed.deployments.get(body["metadata"]["name"])
    if served is None or deployment is None:
        return None
    try:
        owner = RunRef(parse(_as_made(body)), body["metadata"]["uid"], learned_digest(status))
    except InvalidRun:
        return None
    served = replace(served, reason="the specification is not accepted.")
    course = canary.plot(owner, served, status, observed, now)
    adapter = has_syncer(deployment["spec"]["template"])
    wanted = gateway.desired(owner, served.model, served.digest, adapter=adapter)
    generation: int = wanted["generation"]
    return course, Decision(
        apply=(gateway.config_map(owner, wanted),),
        annotate=tuple((ObjectRef.to(pod), generation) for pod in to_annotate(generation, observed)),
        delete=canary.to_delete(owner, course, observed, generation, complete=False),
        requeue=canary.seconds_to_next_look(course, observed),
    )


def _as_made(body: Manifest) -> Manifest:
    """A run without what may have changed since it was made, and was valid."""
    made = {key: value for key, value in body.items() if key != "status"}
    return made | {"spec": without_mutable(made["spec"])}
