"""Stage teach: the teacher plays the training tasks with hints, retrieved once for each before its first step.

python -m distillery.stages.teach CONFIG
"""

from __future__ import annotations

from distillery.core.planner.plays import teaching_temperature
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.played_arms import play_arms
from distillery.stages.runtime.runner import Result, run_stage


async def main(context: StageContext) -> tuple[Result, None]:
    """Play ``teacherRollout.rolloutsPerTask`` episodes per training task."""
    spec = context.spec
    temperatures = [teaching_temperature(spec)] * spec.teacher_rollout.rollouts_per_task
    arms = await play_arms(context, "train", temperatures=temperatures)
    return {"arms": arms}, None


if __name__ == "__main__":
    run_stage(main)
