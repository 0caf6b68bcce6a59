"""The planner: pure functions that decide the next step; both executors follow them."""

from distillery.core.planner.graph import Dataset, Kind, Model, Stage, StageId
from distillery.core.planner.plan import Plan, StageState, Verdict, plan

__all__ = ["Dataset", "Kind", "Model", "Plan", "Stage", "StageId", "StageState", "Verdict", "plan"]
