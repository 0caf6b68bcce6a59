"""One chat completion for each endpoint, with the run's parameters: a wrong key, model or parameter shows at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distillery.core import plugins
from distillery.core.api import Spec
from distillery.core.api.problems import Problem, format_value
from distillery.core.api.spec.models import Endpoint
from distillery.core.secrets import SecretNotFound, read_secret
from distillery.hints.extractors import llm
from distillery.llm.client import (
    ChatClient,
    ParameterRefused,
    PromptRefused,
    RequestRefused,
    RequestSettings,
    ServerUnavailable,
)
from distillery.preflight.facts import extractor_of

SECONDS = 60.0
"""How long an endpoint may take to answer, one that is starting included."""

_QUESTION = "Answer with one word: which color does grass have?"


class EndpointAway(Exception):
    """An endpoint gives no answer now, and may later."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Request:
    """A completion to ask for: the endpoint's field, the endpoint, and the parameters that the run will send."""

    path: str
    endpoint: Endpoint
    parameters: Mapping[str, Any]


def list_requests(spec: Spec) -> list[Request]:
    """Return one request for each endpoint that the run will use."""
    models, result = spec.models, list[Request]()
    agent = plugins.load("agents", spec.agent.name)
    play = {"max_tokens": spec.agent.max_tokens or agent.max_tokens, "stop": list(agent.stop)}
    if models.student.endpoint:
        parameters = {**play, "temperature": spec.rollout.temperature}
        result.append(Request("spec.models.student.endpoint", models.student.endpoint, parameters))
    if models.teacher and models.teacher.endpoint:
        temperature = (
            spec.rollout.temperature if spec.teacher_rollout.temperature is None else spec.teacher_rollout.temperature
        )
        result.append(
            Request("spec.models.teacher.endpoint", models.teacher.endpoint, {**play, "temperature": temperature})
        )
    if models.extractor and extractor_of(spec) == llm.LanguageModel.name:
        strictest, *_ = llm.list_response_formats(spec.hints.max_per_failure)
        parameters = {
            "max_tokens": models.extractor.max_tokens,
            "temperature": 0.0,
            "response_format": strictest,
        }
        result.append(Request("spec.models.extractor.endpoint", models.extractor.endpoint, parameters))
    return result


async def ask_endpoints(spec: Spec, *, seconds: float) -> list[Problem]:
    """Return the problems that endpoints report. Those whose key can't be read are left out: that is a problem of its
    own.

    Raises:
        EndpointAway: one can't be reached, or answers with nothing that could be used.
    """
    return [problem for request in list_requests(spec) if (problem := await _ask(request, seconds))]


async def _ask(request: Request, seconds: float) -> Problem | None:
    """Return the problem that one endpoint reports; None if it replies."""
    endpoint = request.endpoint
    key = endpoint.api_key_secret_ref
    try:
        api_key = read_secret(key.name, key.key) if key else ""
    except SecretNotFound:
        return None
    try:
        client = ChatClient(
            endpoint.base_url,
            endpoint.model,
            RequestSettings(
                api_key=api_key,
                parameters=endpoint.parameters,
                field=request.path,
                timeout=seconds,
                patience=seconds,
            ),
        )
        async with asyncio.timeout(seconds), client:
            await client.complete([{"role": "user", "content": _QUESTION}], **request.parameters)
    except (RequestRefused, PromptRefused) as error:
        if isinstance(error, ParameterRefused) and error.parameter == "response_format":
            return None  # the extractor asks in other ways then
        return Problem(request.path, format_value(endpoint.model), f"refused a chat completion: {error}")
    except ServerUnavailable as error:
        raise EndpointAway(Problem(request.path, format_value(endpoint.model), str(error))) from error
    except TimeoutError as error:
        reason = f"{endpoint.base_url} gave no chat completion within {seconds:g} s: is the server up?"
        raise EndpointAway(Problem(request.path, format_value(endpoint.model), reason)) from error
    return None
