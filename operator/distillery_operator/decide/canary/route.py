"""The route of a canary and the servers behind it: functions of its status and of the existing servers. Pure."""

from __future__ import annotations

from math import ceil

from distillery.core.api.spec.canary import Canary, CanaryStep
from distillery_operator.decide.canary.pods import serves
from distillery_operator.decide.canary.state import CanaryStatus, Phase
from distillery_operator.decide.canary.target import ServingTarget
from distillery_operator.manifests import gateway, servers
from distillery_operator.manifests.gateway import CANARY, CanaryRoute
from distillery_operator.model.names import COMPONENT_LABEL, RunRef
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed


def route_canary(owner: RunRef, target: ServingTarget, canary: CanaryStatus, observed: Observed) -> CanaryRoute | None:
    """Return the route of the canary; None before its servers are there.

    Merged weights need servers of their own. Once these get traffic they keep it, and their failures count. A share
    that needs more servers begins once they are available.

    Args:
        owner: the run.
        target: the canary's student.
        canary: its status.
        observed: the run's objects.
    """
    spec = _spec_of(owner)
    step = spec.steps[canary.step - 1]
    ready = servers.serves_adapters(owner.run.spec) or canary.received_traffic
    if not ready and not serves(find_canary_servers(observed), target, _count_for(owner, step)):
        return None
    if waits_for_servers(owner, target, canary, observed):
        step = spec.steps[canary.step - 2]
    return CanaryRoute(
        target.model, target.digest, step.weight, canary.step_decided_time, spec.analysis.max_first_token_seconds
    )


def waits_for_servers(owner: RunRef, target: ServingTarget, canary: CanaryStatus, observed: Observed) -> bool:
    """Return whether a step waits for servers that the step before it did not need."""
    if servers.serves_adapters(owner.run.spec) or canary.phase != Phase.STARTING or canary.step == 1:
        return False
    steps = _spec_of(owner).steps
    before, needed = (_count_for(owner, steps[number]) for number in (canary.step - 2, canary.step - 1))
    return needed > before and not serves(find_canary_servers(observed), target, needed)


def routing_generation(owner: RunRef, stable: ServingTarget, route: CanaryRoute | None) -> int:
    """Return the generation of the routing document with a canary's route."""
    adapter = servers.serves_adapters(owner.run.spec)
    return gateway.routing_document(owner, stable.model, stable.digest, adapter=adapter, canary=route).generation


def count_canary_servers(owner: RunRef, canary: CanaryStatus | None) -> int:
    """Return how many servers of its own the canary gets: its share of those that serve."""
    if canary is None or owner.run.spec.serving.canary is None:
        return 1
    return _count_for(owner, _spec_of(owner).steps[canary.step - 1])


def find_canary_servers(observed: Observed) -> Manifest | None:
    """Return the Deployment of a canary whose weights are merged, or None."""
    deployments = observed.deployments.values()
    return next((d for d in deployments if d["metadata"]["labels"][COMPONENT_LABEL] == CANARY.component), None)


def _spec_of(owner: RunRef) -> Canary:
    spec = owner.run.spec.serving.canary
    assert spec is not None
    return spec


def _count_for(owner: RunRef, step: CanaryStep) -> int:
    """Return the number of servers for a step: one for copies, of which each gateway runs eight at most."""
    return max(1, ceil(owner.run.spec.serving.replicas * step.weight / 100))
