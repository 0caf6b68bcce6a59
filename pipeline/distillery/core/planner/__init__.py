"""The planner: pure functions that decide the next step; both executors follow them."""

from distillery.core.planner.graph import Dataset, Kind, Model, Stage, StageId
from distillery.core.planner.plan import plan
from distillery.core.planner.results import ArmScore, Promotion, StageResult
from distillery.core.planner.states import Plan, PlanPhase, StagePhase, StageState, Verdict

__all__ = [
    "ArmScore",
    "Dataset",
    "Kind",
    "Model",
    "Plan",
    "PlanPhase",
    "Promotion",
    "Stage",
    "StageId",
    "StagePhase",
    "StageResult",
    "StageState",
    "Verdict",
    "plan",
]
