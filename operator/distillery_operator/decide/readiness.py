"""The condition Ready, as kstatus, Flux and Argo CD read it: whether what the run offers now is there. Pure.

A student that is served is what a run offers. So Ready follows Serving as soon as there is one, whatever a later round
does. Before that, and without one, a run is ready when it is complete. A run without replicas counts as one that
serves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from distillery_operator.model import conditions, reasons


def readiness(phase: str, message: str, held: Iterable[Mapping[str, Any]]) -> tuple[bool, str, str]:
    """Return whether a run is ready, the reason, and a message.

    Args:
        phase: of the run.
        message: of the run.
        held: its other conditions.
    """
    held = list(held)
    accepted, serving = conditions.find(held, conditions.ACCEPTED), conditions.find(held, conditions.SERVING)
    if accepted and accepted["status"] == "False":
        return False, accepted["reason"], accepted["message"]
    if failed := conditions.find_true(held, conditions.FAILED):
        return False, failed["reason"], failed["message"]
    if serving and serving["reason"] != reasons.Serving.NO_REPLICAS:
        return serving["status"] == "True", serving["reason"], serving["message"]
    if phase == "Complete":
        return True, reasons.Ready.COMPLETE, message
    return False, reasons.Ready.SUSPENDED if phase == "Suspended" else reasons.Ready.PROGRESSING, message
