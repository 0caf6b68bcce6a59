"""The playing of a stage's arms, which rollout, teach and evaluate have in common."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distillery.agents import Agent
from distillery.core import plugins
from distillery.core.api import Spec
from distillery.core.contracts.stage_config import Server
from distillery.core.planner.plays import PRODUCTION, Strategies
from distillery.database.episode_queue import EpisodeQueue, EpisodeRequest, Worker
from distillery.environments.base import Task
from distillery.environments.pool.pool import EnvironmentConfig, EnvironmentPool
from distillery.hints.bank import HintBank
from distillery.hints.base import Hint
from distillery.llm.client import ChatClient, RequestSettings
from distillery.rollouts.driver import Driver, DriverLimits, collect_garbage_seldom
from distillery.rollouts.player import Budget, Player
from distillery.stages.runtime.context import StageContext, read_api_key


async def play_arms(context: StageContext, purpose: str, *, temperatures: Sequence[float]) -> dict[str, dict[str, Any]]:
    """Play every task in every arm of the stage, and return the results per arm.

    Args:
        context: of the stage.
        purpose: of the tasks: ``train`` or ``evaluate``.
        temperatures: of the episodes of a task in an arm; the first has the seed 0.
    """
    config, spec, agent = context.config, context.spec, context.prepared.agent
    tasks = context.prepared.tasks(purpose)
    queue = _queue(context)
    _, enqueued = await queue.counts()
    if enqueued != len(tasks) * len(config.arms) * len(temperatures):  # else an earlier start enqueued all
        expected_steps = await context.episodes.mean_steps(without_arm=PRODUCTION)
        requests: list[EpisodeRequest] = []
        for arm in config.arms:
            hinted = await _with_hints(tasks, arm, spec, context.bank)
            requests += _requests(hinted, arm, temperatures=temperatures, expected_steps=expected_steps)
        await queue.enqueue(requests, player=config.player)
    examples = _count_examples(spec, agent, is_student=config.student)
    assert config.server is not None, "the executor gives every playing stage a server"
    client, pool = _client(config.server, spec), _pool(spec, context.prepared.folder_of(purpose))
    async with client, pool:
        context_length = await client.context_length()
        budgets = [_budget(spec, agent, temperature, context_length) for temperature in temperatures]
        player = Player(agent, examples, pool, client)
        driver = Driver(
            queue,
            lambda lease: player.play(lease, budgets[lease.seed]),
            DriverLimits(spec.rollout.concurrency, spec.rollout.lease_seconds, spec.rollout.max_attempts),
            on_progress=lambda done, total: context.progress.report(done, total, _unit(client, pool)),
        )
        collect_garbage_seldom()
        await driver.run()
    return await context.episodes.summarize(context.round, arms=config.arms)


def _queue(context: StageContext) -> EpisodeQueue:
    """Return the queue of the stage's episodes, for a worker whose name is unique among all of the run."""
    config = context.config
    return EpisodeQueue(
        context.database,
        context.run_id,
        round=context.round,
        arms=config.arms,
        worker=Worker(
            f"{config.stage}/{socket.gethostname()}/{uuid.uuid4().hex[:12]}", context.spec.rollout.lease_seconds
        ),
    )


def _client(server: Server, spec: Spec) -> ChatClient:
    """Return the client of the model that plays."""
    return ChatClient(
        server.base_url,
        server.model,
        RequestSettings(
            api_key=read_api_key(server.api_key_secret),
            parameters=server.parameters,
            field=server.field,
            timeout=spec.rollout.request_timeout_seconds,
            patience=spec.rollout.patience_seconds,
        ),
    )


def _pool(spec: Spec, folder: Path) -> EnvironmentPool:
    """Return the processes of the environment."""
    rollout = spec.rollout
    return EnvironmentPool(
        EnvironmentConfig(spec.environment.name, spec.environment.plugin_options, folder),
        processes=rollout.environment_processes,
        step_timeout=rollout.step_timeout_seconds,
        patience=rollout.patience_seconds,
    )


def _budget(spec: Spec, agent: Agent, temperature: float, context_length: int | None) -> Budget:
    """Return the limits of an episode."""
    return Budget(
        max_steps=spec.environment.max_steps,
        max_turns=spec.agent.max_turns,
        max_repeated_replies=spec.agent.max_repeated_replies,
        max_tokens=spec.agent.max_tokens or agent.max_tokens,
        temperature=temperature,
        context_length=context_length,
    )


def _count_examples(spec: Spec, agent: Agent, *, is_student: bool) -> int:
    """Return how many worked examples a prompt has; a trained student gets none unless they are kept."""
    if is_student and not spec.agent.keep_few_shot_examples:
        return 0
    return agent.examples if spec.agent.few_shot_examples is None else spec.agent.few_shot_examples


def _unit(client: ChatClient, pool: EnvironmentPool) -> str:
    """Return the unit of progress, with what is waited for; a status holds 32 characters."""
    if client.waiting:
        return "episodes (waiting: model server)"
    return "episodes (waiting: environment)" if pool.waiting else "episodes"


async def _with_hints(tasks: Sequence[Task], arm: str, spec: Spec, bank: HintBank) -> list[tuple[Task, Sequence[Hint]]]:
    """Return the tasks, each with the hints that the arm's retriever finds for it."""
    retriever = plugins.load("retrievers", Strategies.of(spec).retriever_of(arm))(bank)
    return list(zip(tasks, await retriever.retrieve(tasks, k=spec.hints.top_k), strict=True))


def _requests(
    tasks: Sequence[tuple[Task, Sequence[Hint]]],
    arm: str,
    *,
    temperatures: Sequence[float],
    expected_steps: Mapping[str, float],
) -> list[EpisodeRequest]:
    """Return the episodes of an arm; the longest that are expected get the highest priority."""
    return [
        EpisodeRequest(
            task,
            arm,
            seed,
            temperature,
            priority=expected_steps.get(task.category, 0.0),
            hint_ids=tuple(hint.id for hint in hints),
            hints=tuple(hint.text for hint in hints),
        )
        for task, hints in tasks
        for seed, temperature in enumerate(temperatures)
    ]
