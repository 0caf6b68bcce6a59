"""The reports of serving pods about the students that they serve, and of their syncers about problems.

A pod that does not answer counts as one that does not serve what it should.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from distillery_operator.decide.canary.analysis import Counts
from distillery_operator.decide.canary.routing import has_syncer, told_generation
from distillery_operator.manifests.gateway import ADMIN_PORT, SYNCER_PORT
from distillery_operator.model.objects import Manifest
from distillery_operator.pods import client

_MAX_TARGETS = 16
_MAX_PROBLEM = 300  # characters; what a pod says is not trusted


@dataclass(frozen=True, slots=True)
class Said:
    """A pod's word.

    Attributes:
        generation: of what its gateway serves; 0 for nothing.
        problem: why its syncer can't load what it should; empty if it can.
        live: what became of the traffic of that generation, by the label of the student.
    """

    generation: int
    problem: str = ""
    live: Mapping[str, Counts] = field(default_factory=dict)


async def ask(pods: Iterable[Manifest], *, port: int = ADMIN_PORT, syncer_port: int = SYNCER_PORT) -> dict[str, Said]:
    """Return the report of each pod, by the pod's uid."""
    async with client.session() as session:

        async def one(pod: Manifest) -> tuple[str, Said] | None:
            said = await client.ask(session, pod, port, "/state", read=_read)
            if said and said.generation != told_generation(pod) and has_syncer(pod):
                problem = await client.ask(session, pod, syncer_port, "/state", read=_problem)
                said = None if problem is None else replace(said, problem=problem)
            return (pod["metadata"]["uid"], said) if said else None

        return dict(await client.gather(partial(one, pod) for pod in pods))


def _read(told: Any) -> Said:
    return Said(int(told["generation"]), live=_live(told))


def _problem(told: Any) -> str:
    return str(told["problem"])[:_MAX_PROBLEM]


def _live(told: Mapping[str, Any]) -> dict[str, Counts]:
    """The counts of a pod; a gateway that is about to be replaced by a newer one may have none."""
    return {str(label)[:63]: Counts.read(said) for label, said in list(told.get("traffic", {}).items())[:_MAX_TARGETS]}
