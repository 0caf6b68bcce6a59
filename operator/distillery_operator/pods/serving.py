"""The reports of serving pods about the students that they serve, and of their syncers about problems.

A pod that does not answer counts as one that does not serve what it should.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from distillery.core.contracts.traffic import Counts
from distillery_operator.decide.canary.pods import has_syncer, read_generation
from distillery_operator.manifests.gateway import ADMIN_PORT, SYNCER_PORT
from distillery_operator.model.objects import Manifest
from distillery_operator.pods import client

_MAX_TARGETS = 16
_MAX_PROBLEM = 300  # characters; what a pod says is not trusted


@dataclass(frozen=True, slots=True)
class PodReport:
    """The report of a pod.

    Attributes:
        generation: of what its gateway serves; 0 for nothing.
        problem: why its syncer can't load what it should; empty if it can.
        traffic: the traffic counts of that generation, by the label of the student.
    """

    generation: int
    problem: str = ""
    traffic: Mapping[str, Counts] = field(default_factory=dict)


async def poll_pods(
    pods: Iterable[Manifest], *, port: int = ADMIN_PORT, syncer_port: int = SYNCER_PORT
) -> dict[str, PodReport]:
    """Return the report of each pod, by the pod's uid."""
    async with client.session() as session:

        async def poll(pod: Manifest) -> tuple[str, PodReport] | None:
            report = await client.ask(session, pod, port, "/state", read=parse_report)
            if report and report.generation != read_generation(pod) and has_syncer(pod):
                problem = await client.ask(session, pod, syncer_port, "/state", read=_parse_problem)
                report = None if problem is None else replace(report, problem=problem)
            return (pod["metadata"]["uid"], report) if report else None

        return dict(await client.gather(partial(poll, pod) for pod in pods))


def parse_report(state: Any) -> PodReport:
    """Return the report in a gateway's state; a gateway of an earlier release may have no counts."""
    traffic = list(state.get("traffic", {}).items())[:_MAX_TARGETS]
    counts = {str(label)[:63]: Counts.read(values) for label, values in traffic}
    return PodReport(int(state["generation"]), traffic=counts)


def _parse_problem(state: Any) -> str:
    return str(state["problem"])[:_MAX_PROBLEM]
