"""The report of what keeps a run from continuing. Pure."""

from __future__ import annotations

from distillery_operator.decide.context import Changes, Context
from distillery_operator.decide.problems import MIN_AGE, find_problem, find_suspects
from distillery_operator.decide.steps.stages import unblock
from distillery_operator.model import conditions as kinds
from distillery_operator.model.decision import sooner
from distillery_operator.polling import SUSPICION_SECONDS


def report_problems(context: Context) -> Changes:
    """Report the problem that keeps the run from continuing, if there is one. A complete run has none."""
    if context.conditions.is_true(kinds.COMPLETE):
        return Changes()
    resync = context.settings.resync_seconds
    suspicious = find_suspects(context.observed) or find_problem(context.observed)
    requeue = sooner(resync, SUSPICION_SECONDS if suspicious else None)
    problem = find_problem(context.observed, context.now - MIN_AGE)
    if problem is None:
        return Changes(conditions=unblock(context.conditions), requeue=requeue)
    conditions = context.conditions.set(kinds.STALLED, True, problem.reason, problem.message)
    return Changes(conditions=conditions, message=problem.message, requeue=requeue)
