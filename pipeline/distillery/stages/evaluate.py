"""Stage evaluate: a model plays the pinned held-out tasks in its arms.

python -m distillery.stages.evaluate CONFIG
"""

from __future__ import annotations

from distillery.core.planner.plays import CONFIRMING_ARMS
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.played_arms import play_arms
from distillery.stages.runtime.runner import Result, run_stage


async def main(context: StageContext) -> tuple[Result, None]:
    """Play ``rolloutsPerTask`` episodes per held-out task and arm; none for a student that could not be trained."""
    evaluation, tasks = context.spec.evaluation, context.spec.environment.tasks
    if context.config.server is None:
        return {"heldOutTasks": tasks.evaluate, "arms": {}}, None
    purpose = "confirm" if set(context.config.arms) <= set(CONFIRMING_ARMS) else "evaluate"
    temperatures = [evaluation.temperature] * evaluation.rollouts_per_task
    arms = await play_arms(context, purpose, temperatures=temperatures)
    return {"heldOutTasks": tasks.evaluate, "arms": arms}, None


if __name__ == "__main__":
    run_stage(main)
