"""The planner: pure functions that decide the next step; both executors follow them."""

from distillery.core.planner.graph import Kind, Lineage, Model, Stage, StageId
from distillery.core.planner.plan import plan
from distillery.core.planner.plays import Dataset
from distillery.core.planner.results import ArmScore, Promotion, StageResult
from distillery.core.planner.states import Plan, PlanPhase, StagePhase, StageState, Verdict

__all__ = [
    "ArmScore",
    "Dataset",
    "Kind",
    "Lineage",
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
