"""The language models of a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue, StringConstraints

from distillery.api.base import URL_PATTERN, Part, SecretKey, Text

_OURS = ("model", "messages", "stream", "n")


def _check_parameters(parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
    ours = [name for name in parameters if name in _OURS]
    if ours:
        raise ValueError(f"leave out {', '.join(ours)}, which every request sets itself")
    return parameters


Parameters = Annotated[dict[str, JsonValue], Field(max_length=32), AfterValidator(_check_parameters)]


class Endpoint(Part):
    """An OpenAI-compatible server that someone else runs."""

    base_url: Annotated[str, StringConstraints(pattern=URL_PATTERN, max_length=512), Field(alias="baseURL")]
    """The URL up to and including ``/v1``."""

    model: Text
    """The model's name there."""

    api_key_secret_ref: SecretKey | None = None
    """The key sent as a bearer token."""

    parameters: Parameters = {}
    """parameters are merged into the body of each request, in place of what stands there; ``null`` leaves one out.
    A reasoning model of OpenAI's, for instance, takes ``{max_tokens: null, max_completion_tokens: 2000, temperature:
    null, stop: null, reasoning_effort: low}``."""


Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
"""A commit of a model repository. Branches and tags can move, so only commits are accepted."""


class Student(Part):
    """The model that learns. Its weights are needed: a student can't be trained behind an endpoint."""

    model: Text
    """A model repository such as ``Qwen/Qwen2.5-14B-Instruct``, or the path of a folder with the model's files."""

    revision: Revision | None = None
    """The commit of the model repository; needed unless ``model`` is a folder."""

    endpoint: Endpoint | None = None
    """A server that already serves this very model; it then plays the base model's episodes."""


class Teacher(Part):
    """The model that replays the tasks with hints. Either ``model`` or ``endpoint``."""

    model: Text | None = None
    """A model repository or a folder, as for the student."""

    revision: Revision | None = None
    """The commit of the model repository; needed unless ``model`` is a folder."""

    endpoint: Endpoint | None = None
    """A server that serves the teacher."""


class Extractor(Part):
    """The model that turns a failed episode into hints."""

    endpoint: Endpoint
    """The server that serves it. It is asked for JSON by a schema, and without one where it takes none."""

    max_tokens: Annotated[int, Field(ge=1, le=131_072)] = 4000
    """maxTokens is the most tokens of a reply, what a reasoning model thinks included."""


class Models(Part):
    """Who plays, who teaches, who reads failures."""

    student: Student
    """The model that plays first and learns."""

    teacher: Teacher | None = None
    """Default: the model that the round started with (the student's base model in round 1)."""

    extractor: Extractor | None = None
    """Default: none; hints are then mined without a language model."""
