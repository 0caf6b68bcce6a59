"""Everything of a preflight that runs plug-ins, in a process of its own: what a plug-in does, it does to that process.

    python -m distillery.preflight.probe < request > answer

The request is JSON: ``{"document": ..., "endpoints": bool, "play": bool}``; so is the answer, an :class:`Answer`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from distillery.core import plugins
from distillery.core.api import DistillationRun, Spec, canonical, parse
from distillery.core.api.problems import Problem, format_value
from distillery.environments.pool.worker import claim_pipes, describe
from distillery.preflight.endpoints import EndpointAway, ask_endpoints
from distillery.preflight.facts import EnvironmentFacts, PluginFacts
from distillery.preflight.inspect import inspect
from distillery.preflight.trial import Trial, play_one

_ENDPOINT_SECONDS = 15.0  # for somebody waits
_SECONDS = 120.0  # to build the environment and to ask the endpoints
_PLAY_SECONDS = 1800.0  # to prepare a task too


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a probe.

    Attributes:
        plugins: the findings of running the plug-ins.
        problems: of endpoints, and of the task that was played.
        trial: the task that was played; None if none was to be, or could be.
    """

    plugins: PluginFacts
    problems: Sequence[Problem] = ()
    trial: Trial | None = None


async def probe(run: DistillationRun, *, endpoints: bool, play: bool) -> Answer:
    """Run a probe. A process that dies or hangs is an error of the environment's field."""
    request = json.dumps({"document": canonical(run), "endpoints": endpoints, "play": play})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "distillery.preflight.probe", stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    limit = _PLAY_SECONDS if play else _SECONDS
    try:
        output, errors = await asyncio.wait_for(process.communicate(request.encode()), limit)
    except TimeoutError:
        return _answer_without_process(f"did not end within {limit:g} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return _parse_answer(json.loads(output))
    except (ValueError, KeyError, TypeError):
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        return _answer_without_process(": ".join([f"ended its process with code {process.returncode}", *last]))


def _answer_without_process(how: str) -> Answer:
    """Return the answer of a process that died or hung."""
    return Answer(PluginFacts({"spec.environment.name": f"building it {how}"}))


def _parse_answer(answer: dict[str, Any]) -> Answer:
    """Parse an answer."""
    environment, trial = answer["plugins"]["environment"], answer["trial"]
    return Answer(
        PluginFacts(answer["plugins"]["errors"], EnvironmentFacts(**environment) if environment else None),
        [Problem(**problem) for problem in answer["problems"]],
        Trial(**trial) if trial else None,
    )


async def answer(spec: Spec, *, endpoints: bool, play: bool) -> Answer:
    """Probe a specification, in the process made for it."""
    findings = inspect(spec, trainer=False)
    problems, trial = list[Problem](), None
    agent = spec.agent.name
    if endpoints and agent in plugins.list_installed("agents") and "spec.agent.name" not in findings.errors:
        try:
            problems += await ask_endpoints(spec, seconds=_ENDPOINT_SECONDS)
        except EndpointAway as error:
            problems.append(error.problem)
    if play and findings.environment and not findings.errors:
        try:
            trial = await play_one(spec)
        except (Exception, SystemExit) as error:
            name = format_value(spec.environment.name)
            problems.append(Problem("spec.environment.name", name, f"a task can't be played: {describe(error)}"))
    return Answer(findings, problems, trial)


def main() -> None:
    """Read the request, answer it."""
    requests, answers = claim_pipes()
    request = json.loads(requests.read())
    run = parse(request["document"])
    result = asyncio.run(answer(run.spec, endpoints=request["endpoints"], play=request["play"]))
    json.dump(asdict(result), answers)
    answers.flush()


if __name__ == "__main__":
    main()
