"""The DistillationRun resource: what a user writes, checked before anything is started."""

from distillery.core.api.load import canonical, load, parse, parse_known, without_defaults
from distillery.core.api.problems import CannotRun, InvalidRun, Problem
from distillery.core.api.requests import CANARY_ANNOTATION, SERVE_ANNOTATION, STAGES_ANNOTATION
from distillery.core.api.run import (
    GROUP,
    KIND,
    RESERVED,
    RETRY_ANNOTATION,
    RUN_LABEL,
    STAGE_LABEL,
    VERSION,
    DistillationRun,
    Spec,
)

__all__ = [
    "CANARY_ANNOTATION",
    "GROUP",
    "KIND",
    "RESERVED",
    "RETRY_ANNOTATION",
    "RUN_LABEL",
    "SERVE_ANNOTATION",
    "STAGES_ANNOTATION",
    "STAGE_LABEL",
    "VERSION",
    "CannotRun",
    "DistillationRun",
    "InvalidRun",
    "Problem",
    "Spec",
    "canonical",
    "load",
    "parse",
    "parse_known",
    "without_defaults",
]
