"""Checks of a run before it starts, for ``distillery validate`` and ``distillery run``."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from distillery.cli.errors import EXIT_CONFIGURATION
from distillery.core.api import CannotRun, DistillationRun, InvalidRun, load
from distillery.core.api.rules import warning_of
from distillery.core.contracts.messages import read_text

if TYPE_CHECKING:  # what follows takes a second to import, and most commands don't need it
    from distillery.preflight.trial import Trial


async def validate(options: argparse.Namespace) -> int:
    """Check a file, and print its problems or what it describes."""
    where, trial = str(options.file), None
    try:
        run = load(options.file, changes=options.set)
        if not options.offline:
            trial = await check_here(run, where, endpoints=True, play=options.play)
    except InvalidRun as error:
        if not options.json:
            raise
        problems = [{"path": one.path, "value": one.value, "fix": one.fix} for one in error.problems]
        print(json.dumps({"file": where, "valid": False, "problems": problems}, indent=1))
        return EXIT_CONFIGURATION
    if options.json:
        result = {"file": where, "valid": True, "problems": [], "run": run.key, "remarks": list_remarks(run)}
        print(json.dumps(result, indent=1))
        return 0
    print("\n".join([summarize(run, where), *list_remarks(run)]))
    if trial:
        print(f"\n{format_trial(trial)}")
    return 0


async def check_here(run: DistillationRun, where: str, *, endpoints: bool, play: bool = False) -> Trial | None:
    """Check a run on this machine, and return the task that was played, if one was to be.

    Args:
        run: what to check.
        where: the name of its file, for the message.
        endpoints: ask each endpoint for a chat completion.
        play: play one task.

    Raises:
        CannotRun: with every problem.
    """
    from distillery.core.devices import machine_has_gpu
    from distillery.preflight.checks import check
    from distillery.preflight.facts import gather
    from distillery.preflight.probe import probe

    result = await probe(run, endpoints=endpoints, play=play)
    problems = [*check(run.spec, gather(run.spec, result.plugins, gpu=machine_has_gpu())), *result.problems]
    if problems:
        raise CannotRun(problems, where)
    return result.trial


def summarize(run: DistillationRun, where: str) -> str:
    """Return a sentence that describes a valid run."""
    spec = run.spec
    return (
        f"{where} is valid: run {run.key}, {spec.environment.name} with {spec.agent.name}, "
        f"{spec.environment.tasks.train} training and {spec.environment.tasks.evaluate} held-out tasks, "
        f"up to {spec.rounds.max_rounds} round{'s' * (spec.rounds.max_rounds > 1)}, "
        f"arms {', '.join(spec.evaluation.arms)}"
    )


def list_remarks(run: DistillationRun) -> list[str]:
    """Return remarks about a run that can start."""
    from distillery.preflight.checks import power_line

    return [line for line in (power_line(run.spec), warning_of(run.spec)) if line]


def format_trial(trial: Trial) -> str:
    """Format a played task for a person."""
    parts = [f"--- task {trial.task}: {trial.goal}"]
    parts += [f"--- prompt, {message['role']}\n{read_text(message)}" for message in trial.prompt]
    answer = "observation" if trial.valid else "observation (the environment refused the command)"
    parts += [f"--- command\n{trial.action}", f"--- {answer}\n{trial.observation}"]
    if trial.facts:
        parts.append("\n".join(["--- facts for the rules", *trial.facts]))
    return "\n".join(parts)
