"""Stage rollout: the model that the round starts with plays the training tasks, without hints.

python -m distillery.stages.rollout CONFIG
"""

from __future__ import annotations

import logging

from distillery.core.planner.graph import own_temperatures
from distillery.stages.runtime.arms import play_arms
from distillery.stages.runtime.runner import Result, StageContext, run_stage

_log = logging.getLogger(__name__)


async def main(context: StageContext) -> tuple[Result, None]:
    """Play one episode per training task, or as many as the teacher if a student learns from own successes."""
    arms = await play_arms(context, context.pinned("train"), temperatures=own_temperatures(context.spec))
    await _warn_of_long_episodes(context)
    return {"arms": arms}, None


async def _warn_of_long_episodes(context: StageContext) -> None:
    """Log how many episodes are likely to be dropped from training; their samples lack worked examples at most."""
    limit = context.spec.training.max_sample_tokens
    if limit is None:
        return
    rows = await context.database.fetch(
        """SELECT count(DISTINCT e.id) AS n FROM episode e JOIN turn t ON t.episode_id = e.id
           WHERE e.run_id = %s AND e.round = %s AND e.arm = ANY(%s) AND t.prompt_tokens + t.completion_tokens > %s""",
        context.run_id, context.round, list(context.config.arms), limit,
    )  # fmt: skip
    if long := rows[0]["n"]:
        _log.warning(
            "%d episodes have more than %d tokens as played: training drops those whose samples are longer "
            "than spec.training.maxSampleTokens",
            long,
            limit,
        )


if __name__ == "__main__":
    run_stage(main)
