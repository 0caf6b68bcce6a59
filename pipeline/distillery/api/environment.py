"""Where the agent acts, and which tasks are pinned for learning and for judging."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from distillery.api.base import Part, PluginName


class Tasks(Part):
    """The pinned tasks.

    A split's tasks are put into an order drawn once with ``seed``, and the first so many are taken, so that a larger
    number only adds tasks. The list and its digest are recorded with every result.
    """

    train: Annotated[int, Field(ge=1, le=100_000)] = 1200
    """Tasks of the split ``train`` that the agent learns from."""

    evaluate: Annotated[int, Field(ge=1, le=100_000)] = 134
    """Held-out tasks that every arm is judged on."""

    evaluate_split: Annotated[str, StringConstraints(min_length=1, max_length=63)] = "valid_unseen"
    """The split of the held-out tasks. ``train`` takes tasks of that split beyond the ones learnt from."""

    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Draws the order of each split."""


class Environment(Part):
    """The environment, its budget and its tasks."""

    name: PluginName = "alfworld"
    """``alfworld``, or any name registered under the entry points ``distillery.environments``."""

    max_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Actions after which an episode is over."""

    tasks: Tasks = Tasks()
    """Which tasks are learnt from and judged on."""

    options: Annotated[dict[str, JsonValue], Field(max_length=32)] = {}
    """What the environment itself understands; for ``alfworld``: ``games`` (auto, alfworld or generated), ``seed``."""
