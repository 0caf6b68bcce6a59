"""The parts that the options of all environments share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from distillery.environments.base import EnvironmentConfigurationError


def check_names(environment: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise :class:`EnvironmentConfigurationError` for the first option that the environment does not have."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = (
                f"did you mean {near[0]}?" if near else f"it has {(' and ' if len(known) == 2 else ', ').join(known)}"
            )
            raise EnvironmentConfigurationError(f"{environment} has no option {name!r}; {hint}")
