"""From failures to hints, and from hints back into a prompt."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from distillery.api.base import Fraction, Part, PluginName


class Hints(Part):
    """How hints are extracted, kept apart and retrieved."""

    extractor: PluginName | None = None
    """``llm``, ``miner``, or a name registered under ``distillery.extractors``. Default: ``llm`` if
    ``models.extractor`` is set, else ``miner``."""

    retriever: PluginName = "embedding"
    """``embedding``, ``frequent``, ``random``, ``wrong-category``, ``none``, or a name registered under
    ``distillery.retrievers``. It serves the teacher and the arms with hints."""

    k: Annotated[int, Field(ge=1, le=20)] = 3
    """Hints fetched for a task, once, before its first step."""

    per_failure: Annotated[int, Field(ge=1, le=8)] = 4
    """The most hints taken from one failed episode (extractor ``llm``)."""

    max_length: Annotated[int, Field(ge=20, le=500)] = 120
    """The most characters of a hint."""

    similarity: Fraction = 0.85
    """A hint more similar than this to a more frequent one of its category is dropped (share of equal characters)."""
