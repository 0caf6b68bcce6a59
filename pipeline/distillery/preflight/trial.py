"""One task of the run, opened and stepped once by worker processes as in the run itself, to be looked at."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from distillery.agents import Agent
from distillery.core import plugins
from distillery.core.api import Spec
from distillery.core.contracts.messages import Message
from distillery.environments.base import Environment
from distillery.environments.pool.pool import EnvironmentConfig, EnvironmentPool


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of playing one task.

    Attributes:
        task: the task's id.
        goal: the task's goal.
        prompt: the agent's first messages, without hints.
        action: the command that was tried.
        observation: the environment's answer.
        valid: whether it carried the command out.
        facts: the facts that the extractor ``rules`` reads from this turn.
    """

    task: str
    goal: str
    prompt: list[Message]
    action: str
    observation: str
    valid: bool
    facts: list[str]


async def play_one(spec: Spec) -> Trial:
    """Prepare one training task in a folder of its own, and play it for one step. Raises whatever plug-ins raise."""
    with tempfile.TemporaryDirectory(prefix="distillery-play-") as name:
        folder = Path(name)
        environment: Environment = plugins.load("environments", spec.environment.name)(
            spec.environment.plugin_options, folder
        )
        environment.limit_steps(spec.environment.max_steps)
        environment.prepare({"train": 1})
        agent: Agent = plugins.load("agents", spec.agent.name)(environment)
        task = environment.catalog("train")[0]
        config = EnvironmentConfig(spec.environment.name, spec.environment.plugin_options, folder)
        async with EnvironmentPool(config, processes=1, step_timeout=spec.rollout.step_timeout_seconds) as pool:
            session, opening = await pool.open(task)
            examples = agent.examples if spec.agent.few_shot_examples is None else spec.agent.few_shot_examples
            prefix = agent.build_prefix(task, opening.text, hints=(), examples=examples)
            action = _harmless(environment)
            observation = await session.step(action)
            await session.close()
        facts = environment.read(opening.text, [(action, observation.text)])
    return Trial(
        task=task.id,
        goal=task.goal,
        prompt=list(prefix.messages),
        action=action,
        observation=observation.text,
        valid=observation.valid,
        facts=[_format_fact(asdict(fact)) for fact in facts],
    )


def _harmless(environment: Environment) -> str:
    """Return a command that changes little, if it is carried out at all."""
    verbs = environment.verbs
    return "look" if not verbs or "look" in verbs else verbs[0]


def _format_fact(fact: dict[str, object]) -> str:
    """Return a fact as a line of text."""
    kind = fact.pop("kind")
    conditions = fact.pop("conditions")
    values = [str(value) for value in fact.values() if value]
    assert isinstance(conditions, frozenset)
    return " ".join([f"{kind}:", *values, *(f"({condition})" for condition in sorted(conditions))])
