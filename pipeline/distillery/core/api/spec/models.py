"""The language models of a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue, StringConstraints

from distillery.core.api.base import URL_PATTERN, SecretKey, SpecModel, Text

_OURS = ("model", "messages", "stream", "n")


def _check_parameters(parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return parameters that leave out those that every request sets itself."""
    ours = [name for name in parameters if name in _OURS]
    if ours:
        raise ValueError(f"leave out {', '.join(ours)}, which every request sets itself")
    return parameters


Parameters = Annotated[dict[str, JsonValue], Field(max_length=32), AfterValidator(_check_parameters)]


class Endpoint(SpecModel):
    """An OpenAI-compatible server that someone else runs."""

    base_url: Annotated[str, StringConstraints(pattern=URL_PATTERN, max_length=512), Field(alias="baseURL")]
    """baseURL is the URL of the server, up to and including ``/v1``."""

    model: Text
    """model is the name of the model on the server."""

    api_key_secret_ref: SecretKey | None = None
    """apiKeySecretRef is the key that is sent as a bearer token. Default: none is sent."""

    parameters: Parameters = {}
    """parameters replace parameters in the body of each request; ``null`` leaves one out. A reasoning model of OpenAI
    takes ``{max_tokens: null, max_completion_tokens: 2000, temperature: null, stop: null, reasoning_effort: low}``."""


Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
"""A commit of a model repository. Branches and tags can move, so only commits are accepted."""


class Student(SpecModel):
    """The model that learns. Its weights are needed: a student can't be trained behind an endpoint."""

    model: Text
    """model is a model repository such as ``Qwen/Qwen2.5-14B-Instruct``, or a folder with the model's files."""

    revision: Revision | None = None
    """revision is the commit of the model repository. It is required unless ``model`` is a folder."""

    endpoint: Endpoint | None = None
    """endpoint is a server that already serves this model, and then plays the base model's episodes."""


class Teacher(SpecModel):
    """The model that replays the tasks with hints. Either ``model`` or ``endpoint``."""

    model: Text | None = None
    """model is a model repository or a folder, as for the student."""

    revision: Revision | None = None
    """revision is the commit of the model repository. It is required unless ``model`` is a folder."""

    endpoint: Endpoint | None = None
    """endpoint is the server that serves the teacher."""


class Extractor(SpecModel):
    """The model that turns a failed episode into hints."""

    endpoint: Endpoint
    """endpoint is the server that serves the extractor. It gets a JSON schema for its replies where it takes one."""

    max_tokens: Annotated[int, Field(ge=1, le=131_072)] = 4000
    """maxTokens is the largest number of tokens of a reply, with those that a reasoning model thinks in."""


class Models(SpecModel):
    """The models that play, teach and read failures."""

    student: Student
    """student is the model that plays first and learns."""

    teacher: Teacher | None = None
    """teacher is the model that plays with hints. Default: the model that the round started with, which is the
    student's base model in round 1."""

    extractor: Extractor | None = None
    """extractor is the model that reads the failures. Default: none; rules then find the hints."""
