"""The settings that lead from failures to hints, and from hints back into a prompt."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from distillery.core.api.base import Fraction, PluginName, SpecModel


class Hints(SpecModel):
    """How hints are extracted, kept apart and retrieved."""

    extractor: PluginName | None = None
    """extractor is ``llm``, ``rules``, or a name registered under ``distillery.extractors``. Default: ``llm`` if
    ``models.extractor`` is set, else ``rules``."""

    retriever: PluginName = "embedding"
    """retriever is ``embedding``, ``frequent``, ``random``, ``mismatched``, ``shuffled``, ``inert``, ``none``, or a
    name registered under ``distillery.retrievers``. It selects hints for the teacher and for the arms with hints."""

    placebo: PluginName = "random"
    """placebo is the retriever of the arms ``placebo`` and ``placebo-distilled``. ``random`` draws hints of the task's
    category, ``mismatched`` of other categories. ``shuffled`` gives what is said about another subject, and ``inert``
    texts of the same form that say nothing."""

    top_k: Annotated[int, Field(ge=1, le=20)] = 3
    """topK is the number of hints that are retrieved for a task, once, before its first step."""

    max_per_failure: Annotated[int, Field(ge=1, le=8)] = 4
    """maxPerFailure is the largest number of hints from one failed episode (extractor ``llm``)."""

    max_length: Annotated[int, Field(ge=20, le=500)] = 120
    """maxLength is the largest number of characters of a hint."""

    dedup_threshold: Fraction = 0.85
    """dedupThreshold is the similarity, as a share of equal characters, above which a hint is a duplicate. A duplicate
    of a more frequent hint of its category is dropped."""
