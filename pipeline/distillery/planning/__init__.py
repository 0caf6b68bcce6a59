"""The planner: pure functions that decide the next step; both executors follow them."""

from distillery.planning.plan import Plan, StageState, Verdict, plan
from distillery.planning.stages import Dataset, Kind, Model, Stage, StageId

__all__ = ["Dataset", "Kind", "Model", "Plan", "Stage", "StageId", "StageState", "Verdict", "plan"]
