"""The planner: pure functions that decide the next step; both executors follow them."""

from distillery.core.planner.graph import Dataset, Kind, Model, Stage, StageId
from distillery.core.planner.plan import plan
from distillery.core.planner.states import Plan, PlanPhase, StagePhase, StageState, Verdict

__all__ = [
    "Dataset",
    "Kind",
    "Model",
    "Plan",
    "PlanPhase",
    "Stage",
    "StageId",
    "StagePhase",
    "StageState",
    "Verdict",
    "plan",
]
