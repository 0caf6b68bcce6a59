"""Stage rollout: the model that the round starts with plays the training tasks, without hints.

python -m distillery.stages.rollout CONFIG
"""

from __future__ import annotations

from distillery.stages.play import play_arms
from distillery.stages.runner import Result, StageContext, run_stage


async def main(context: StageContext) -> tuple[Result, None]:
    """One episode per training task."""
    arms = await play_arms(context, context.pinned("train"), seeds=1, temperature=context.spec.rollout.temperature)
    return {"arms": arms}, None


if __name__ == "__main__":
    run_stage(main)
