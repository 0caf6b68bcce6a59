"""Annotations that ask the operator for something once, which GitOps does not revert.

A value is ``WORD`` or ``WORD@TOKEN``. The operator acts on a value once, so the token makes a repeated request new; the
command line writes the time. The status keeps the outcome.
"""

from __future__ import annotations

from typing import Final

from distillery.core.api.run import GROUP

SERVE_ANNOTATION: Final = f"{GROUP}/serve-requested"
"""The annotation that pins a student: the number of a round, with 0 the base model; ``latest``, the student promoted
last; or ``previous``, the student served before."""

CANARY_ANNOTATION: Final = f"{GROUP}/canary-requested"
"""``pause``, ``resume`` or ``abort`` the canary."""

STAGES_ANNOTATION: Final = f"{GROUP}/stages-requested"
"""``pause``: stages that run finish, and none starts; or ``resume``."""

LATEST, PREVIOUS = "latest", "previous"
PAUSE, RESUME, ABORT = "pause", "resume", "abort"
