"""Checks of a run before it starts, for ``distillery validate`` and ``distillery run``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillery.api import CannotRun, DistillationRun
from distillery.api.rules import warning_of

if TYPE_CHECKING:  # what follows takes a second to import, and most commands don't need it
    from distillery.preflight.trial import Trial


async def check_here(run: DistillationRun, where: str, *, endpoints: bool, play: bool = False) -> Trial | None:
    """Check a run on this machine; the task that was played, if one was to be.

    Args:
        run: what to check.
        where: the name of its file, for the message.
        endpoints: ask each endpoint for a chat completion.
        play: play one task.

    Raises:
        CannotRun: with every problem.
    """
    from distillery.preflight.checks import check
    from distillery.preflight.facts import gather
    from distillery.preflight.probe import probe
    from distillery.serving.choice import has_gpu

    found = await probe(run, endpoints=endpoints, play=play)
    problems = [*check(run.spec, gather(run.spec, found.plugins, gpu=has_gpu())), *found.problems]
    if problems:
        raise CannotRun(problems, where)
    return found.trial


def summary(run: DistillationRun, where: str) -> str:
    """A valid run in a sentence."""
    spec = run.spec
    return (
        f"{where} is valid: run {run.key}, {spec.environment.name} with {spec.agent.name}, "
        f"{spec.environment.tasks.train} training and {spec.environment.tasks.evaluate} held-out tasks, "
        f"up to {spec.rounds.max} round{'s' * (spec.rounds.max > 1)}, arms {', '.join(spec.evaluation.arms)}"
    )


def remarks(run: DistillationRun) -> list[str]:
    """Return remarks about a run that can start."""
    from distillery.preflight.checks import power_line

    return [line for line in (power_line(run.spec), warning_of(run.spec)) if line]


def shown(trial: Trial) -> str:
    """A played task, to be read by a person."""
    parts = [f"--- task {trial.task}: {trial.goal}"]
    parts += [f"--- prompt, {message['role']}\n{message['content']}" for message in trial.prompt]
    answer = "observation" if trial.valid else "observation (the environment refused the command)"
    parts += [f"--- command\n{trial.action}", f"--- {answer}\n{trial.observation}"]
    if trial.facts:
        parts.append("\n".join(["--- facts for the miner", *trial.facts]))
    return "\n".join(parts)
