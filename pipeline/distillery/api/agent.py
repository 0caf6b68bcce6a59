"""How a language model is turned into an agent."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from distillery.api.base import Part, PluginName


class Agent(Part):
    """The prompt format, and the budget of language-model calls."""

    name: PluginName = "react"
    """``react``, ``stateact``, ``plain``, or any name registered under the entry points ``distillery.agents``."""

    examples: Annotated[int | None, Field(ge=0, le=2)] = None
    """Worked examples in the prompt of the base model and of the teacher. Default: as many as the format calls for."""

    keep_examples: bool = False
    """keepExamples keeps the worked examples in the prompt of a trained student, in training and in play."""

    max_tokens: Annotated[int | None, Field(ge=1, le=8192)] = None
    """Tokens one turn may generate. Default: what the agent's format calls for."""

    max_calls: Annotated[int, Field(ge=1, le=2000)] = 100
    """Calls of the language model after which an episode is over; thoughts cost a call, but no step."""

    stop_after_identical: Annotated[int, Field(ge=2, le=100)] = 5
    """An episode is over after so many identical replies in a row."""
