"""Stage rollout: a model plays the training tasks without hints, the round's starting model or a control's.

python -m distillery.stages.rollout CONFIG
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from distillery.core.planner.plays import ON_POLICY, Strategies, own_temperatures
from distillery.database.episodes import EpisodeStore
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.played_arms import play_arms
from distillery.stages.runtime.runner import Result, run_stage

_log = logging.getLogger(__name__)


async def main(context: StageContext) -> tuple[Result, None]:
    """Play one episode per training task, or as many as the teacher if a student learns from them."""
    spec, config = context.spec, context.config
    learned_from = (
        Strategies.of(spec).learner_of(ON_POLICY) is not None and context.own_arm(context.round) in config.arms
    )
    temperatures = own_temperatures(spec, learned_from=learned_from)
    arms = await play_arms(context, "train", temperatures=temperatures)
    await _warn_of_long_episodes(context.episodes, context.round, config.arms, spec.training.max_sample_tokens)
    return {"arms": arms}, None


async def _warn_of_long_episodes(episodes: EpisodeStore, round: int, arms: Sequence[str], limit: int | None) -> None:
    """Log how many episodes training is likely to drop; their samples have fewer worked examples, if any."""
    if limit is None:
        return
    if count := await episodes.count_long(round, arms=arms, max_tokens=limit):
        _log.warning(
            "%d episodes have more than %d tokens as played: training drops those whose samples are longer "
            "than spec.training.maxSampleTokens",
            count,
            limit,
        )


if __name__ == "__main__":
    run_stage(main)
