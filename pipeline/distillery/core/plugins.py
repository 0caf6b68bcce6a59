"""Look-up of plug-ins by entry point. What ships with Distillery uses the same door as what a user adds."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any


class UnknownPlugin(Exception):
    """No plug-in of this name is installed; the message lists those that are."""


GROUPS = ("environments", "agents", "extractors", "retrievers", "samplers", "trainers")
"""The kinds of plug-ins."""


def list_installed(kind: str) -> list[str]:
    """Return the names registered under a kind, sorted."""
    return sorted(entry_points(group=f"distillery.{kind}").names)


def load(kind: str, name: str) -> Any:
    """Load the class registered as ``name`` under the entry points ``distillery.<kind>``.

    Args:
        kind: one of :data:`GROUPS`.
        name: as in the resource.
    """
    group = entry_points(group=f"distillery.{kind}")
    if name not in group.names:
        raise UnknownPlugin(
            f"no {kind.removesuffix('s')} {name!r} is installed; known: {', '.join(sorted(group.names))}"
        )
    return group[name].load()
