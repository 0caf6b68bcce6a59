"""The failures of a stage: their exit codes, and which of them another attempt can't cure."""

from __future__ import annotations

import signal

from distillery.core import plugins
from distillery.core.api import InvalidRun
from distillery.core.contracts.stage_result import CONFIGURATION_ERROR
from distillery.core.model_files import ModelNotFound
from distillery.core.secrets import SecretNotFound
from distillery.database import DatabaseRefused
from distillery.environments.base import EnvironmentConfigurationError
from distillery.llm.client import RequestRefused
from distillery.rollouts.driver import AllEpisodesBroke

TERMINATED = 128 + signal.SIGTERM
"""The exit code of a stage that was stopped on request, and resumes at the next start."""


class StageFailure(Exception):
    """The stage can't succeed, however often it is tried; the message says why."""


class Terminated(Exception):
    """SIGTERM came, and the state for resuming is saved."""


_PERMANENT = (
    AllEpisodesBroke,
    DatabaseRefused,
    EnvironmentConfigurationError,
    InvalidRun,
    ModelNotFound,
    RequestRefused,
    SecretNotFound,
    StageFailure,
    plugins.UnknownPlugin,
)


def is_permanent(error: Exception) -> bool:
    """Return whether another attempt is pointless until something is fixed."""
    return isinstance(error, _PERMANENT)


def exit_code_of(error: Exception) -> int:
    """Return the exit code of a stage that ended with an error."""
    if is_permanent(error):
        return CONFIGURATION_ERROR
    return TERMINATED if isinstance(error, Terminated) else 1
