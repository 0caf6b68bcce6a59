"""The settings that turn a language model into an agent."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from distillery.core.api.base import PluginName, SpecModel


class Agent(SpecModel):
    """The prompt format, and the budget of language-model calls."""

    name: PluginName = "react"
    """name is ``react``, ``stateact``, ``plain``, or any name registered under the entry points
    ``distillery.agents``."""

    few_shot_examples: Annotated[int | None, Field(ge=0, le=2)] = None
    """fewShotExamples is the number of worked examples in the prompts of the base model and of the teacher. Default:
    the number that the format calls for."""

    keep_few_shot_examples: bool = False
    """keepFewShotExamples keeps the worked examples in the prompt of a trained student, in training and in rollouts."""

    max_tokens: Annotated[int | None, Field(ge=1, le=8192)] = None
    """maxTokens is the number of tokens that one turn may generate. Default: the number that the format calls for."""

    max_turns: Annotated[int, Field(ge=1, le=2000)] = 100
    """maxTurns is the number of language-model calls that ends an episode. A thought is a turn, but no step of the
    environment."""

    max_repeated_replies: Annotated[int, Field(ge=2, le=100)] = 5
    """maxRepeatedReplies is the number of identical replies in a row that ends an episode."""
