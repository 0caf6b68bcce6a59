"""Playing a stage's arms: what rollout, teach and evaluate have in common."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from distillery.core import plugins
from distillery.core.planner.graph import LIVE, retriever_of
from distillery.database.episodes import EpisodeQueue, Wanted
from distillery.environments.base import Task
from distillery.environments.pool.pool import EnvironmentPool
from distillery.llm.client import ChatClient
from distillery.rollouts.player import Budget, play
from distillery.rollouts.worker import Driver, collect_garbage_seldom
from distillery.stages.runtime.runner import StageContext, secret

_log = logging.getLogger(__name__)


async def play_arms(
    context: StageContext, tasks: Sequence[Task], *, temperatures: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """Play every task in every arm of the stage, and return the results per arm.

    Args:
        context: of the stage.
        tasks: to be played.
        temperatures: of the episodes of a task in an arm; the first has the seed 0.
    """
    config, spec = context.config, context.spec
    rollout, agent = spec.rollout, context.agent
    examples = agent.examples if spec.agent.few_shot_examples is None else spec.agent.few_shot_examples
    if config.student and not spec.agent.keep_few_shot_examples:
        examples = 0
    queue = EpisodeQueue(
        context.database,
        context.run_id,
        context.round,
        config.arms,
        worker=context.worker,
        seconds=rollout.lease_seconds,
    )
    await _enqueue(context, queue, tasks, len(temperatures))

    assert config.server is not None, "the executor gives every playing stage a server"
    client = ChatClient(
        config.server.base_url,
        config.server.model,
        api_key=secret(config.server.api_key_secret),
        parameters=config.server.parameters,
        field=config.server.field,
        timeout=rollout.request_timeout_seconds,
        patience=rollout.patience_seconds,
    )
    pool = EnvironmentPool(
        spec.environment.name,
        spec.environment.plugin_options,
        context.environment_folder,
        processes=rollout.environment_processes,
        step_timeout=rollout.step_timeout_seconds,
        patience=rollout.patience_seconds,
    )
    async with client, pool:
        context_length = await client.context_length()
        budgets = [
            Budget(
                max_steps=spec.environment.max_steps,
                max_turns=spec.agent.max_turns,
                max_repeated_replies=spec.agent.max_repeated_replies,
                max_tokens=spec.agent.max_tokens or agent.max_tokens,
                temperature=temperature,
                context_length=context_length,
            )
            for temperature in temperatures
        ]
        driver = Driver(
            queue,
            lambda lease: play(
                lease, agent=agent, examples=examples, environments=pool, client=client, budget=budgets[lease.seed]
            ),
            concurrency=rollout.concurrency,
            lease_seconds=rollout.lease_seconds,
            max_attempts=rollout.max_attempts,
            on_progress=lambda done, total: context.report(done, total, _unit(client, pool)),
        )
        collect_garbage_seldom()
        await driver.run()
    return await _summary(context)


def _unit(client: ChatClient, pool: EnvironmentPool) -> str:
    """The unit of progress, with what is waited for; a status holds 32 characters."""
    if client.waiting:
        return "episodes (waiting: model server)"
    return "episodes (waiting: environment)" if pool.waiting else "episodes"


async def _enqueue(context: StageContext, queue: EpisodeQueue, tasks: Sequence[Task], seeds: int) -> None:
    """Put all arms' episodes into the queue, each with its hints; nothing if an earlier start did."""
    config, spec = context.config, context.spec
    _, total = await queue.counts()
    if total == len(tasks) * len(config.arms) * seeds:
        return
    expected_steps = await _expected_steps(context)
    wanted = []
    for arm in config.arms:
        retriever = plugins.load("retrievers", retriever_of(arm, spec))(context.bank)
        for task, hints in zip(tasks, await retriever.retrieve(tasks, k=spec.hints.top_k), strict=True):
            wanted += [
                Wanted(
                    task,
                    arm,
                    seed,
                    expected_steps.get(task.category, 0.0),
                    tuple(hint.id for hint in hints),
                    tuple(hint.text for hint in hints),
                )
                for seed in range(seeds)
            ]
    await queue.enqueue(wanted)


async def _expected_steps(context: StageContext) -> dict[str, float]:
    """How long the run's episodes of each category were so far: the longest are played first."""
    rows = await context.database.fetch(
        """SELECT category, avg(steps)::float AS steps FROM episode WHERE run_id = %s AND steps > 0 AND arm <> %s
           GROUP BY category""",
        context.run_id, LIVE,
    )  # fmt: skip
    return {row["category"]: row["steps"] for row in rows}


async def _summary(context: StageContext) -> dict[str, dict[str, Any]]:
    rows = await context.database.fetch(
        """SELECT arm, count(*) AS n, count(*) FILTER (WHERE success) AS successes, avg(score)::float AS score,
                  avg(steps)::float AS steps, count(*) FILTER (WHERE stop_reason = 'broken') AS broken,
                  count(*) FILTER (WHERE stop_reason = 'refused') AS refused,
                  coalesce(sum(cut_replies)::float / nullif(sum(turns), 0), 0) AS "cutReplies",
                  coalesce(sum(prompt_tokens), 0)::bigint AS "promptTokens",
                  coalesce(sum(completion_tokens), 0)::bigint AS "completionTokens",
                  sum(cached_tokens)::bigint AS "cachedTokens"
           FROM episode WHERE run_id = %s AND round = %s AND arm = ANY(%s) GROUP BY arm ORDER BY arm""",
        context.run_id, context.round, list(context.config.arms),
    )  # fmt: skip
    return {row.pop("arm"): row for row in rows}
