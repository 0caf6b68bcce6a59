"""The extractor that asks a language model what a failed episode teaches (arXiv 2510.01375, section 3.2)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from distillery.database.extractions import Extraction, ExtractionStore
from distillery.episodes import REPORTED, Episode
from distillery.hints.base import ExtractionContext, HintCandidate, normalize
from distillery.hints.extractors.replies import find_hints
from distillery.llm.client import ChatClient, Completion, ParameterRefused, PromptRefused, RequestSettings

_log = logging.getLogger(__name__)

_IN_FLIGHT = 16
_TRIES = 2
_MAX_TRANSCRIPT = 60_000  # characters: some 15,000 tokens; users' sessions may be many times as long
_RETRY_TEMPERATURE = 0.7

_PROMPT = """\
An agent failed at a task. Read what it did, find what went wrong, and write {least} to {most} hints that would have \
helped it and will help with similar tasks.

Each hint
- is one imperative sentence of at most {length} characters,
- is about this failure, yet useful for other tasks of the kind "{category}",
- speaks of kinds of things, never of this task's instances: write placeholders such as {placeholders} where the
  particular thing does not matter,
- is different from the others.

Task: {goal}

Transcript:
{transcript}

The agent stopped here without success ({stop}). Answer with JSON: {{"hints": ["...", ...]}}"""


class LanguageModel:
    """An extractor with one call per failure. A bad reply is kept and counted, and the model is called once more."""

    name: ClassVar[str] = "llm"

    def __init__(self, context: ExtractionContext) -> None:
        self._context = context
        assert context.spec.models.extractor is not None, "the resource's rules see to it"
        self._endpoint = context.spec.models.extractor.endpoint
        self._max_tokens = context.spec.models.extractor.max_tokens
        self._formats = list_response_formats(context.spec.hints.max_per_failure)
        """How JSON is asked for, the strictest first; what the server refuses is dropped for all later requests."""

    @property
    def model(self) -> str:
        """The model's name at its endpoint."""
        return self._endpoint.model

    async def extract(self, failures: Sequence[Episode]) -> list[HintCandidate]:
        """Return the hints of all failures; those already extracted are read back from the database."""
        done, semaphore = 0, asyncio.Semaphore(_IN_FLIGHT)

        async def one(episode: Episode) -> list[HintCandidate]:
            nonlocal done
            async with semaphore:
                hints = await self._extract(client, episode)
            done += 1
            await self._context.report(done, len(failures))
            return [HintCandidate(episode.task.category, text, (episode.id,)) for text in hints]

        rollout = self._context.spec.rollout
        async with ChatClient(
            self._endpoint.base_url,
            self._endpoint.model,
            RequestSettings(
                api_key=self._context.api_key,
                parameters=self._endpoint.parameters,
                field="spec.models.extractor.endpoint",
                timeout=rollout.request_timeout_seconds,
                patience=rollout.patience_seconds,
            ),
        ) as client:
            of_failures = await asyncio.gather(*map(one, failures))
        merged: dict[tuple[str, str], list[int]] = {}
        for candidate in (candidate for candidates in of_failures for candidate in candidates):
            merged.setdefault((candidate.category, candidate.text), []).extend(candidate.episode_ids)
        return [HintCandidate(category, text, tuple(ids)) for (category, text), ids in merged.items()]

    async def _extract(self, client: ChatClient, episode: Episode) -> list[str]:
        store = ExtractionStore(self._context.database)
        extractions = await store.read(episode.id, self.name)
        while not extractions or (extractions[-1].problem and len(extractions) < _TRIES):
            try:
                # the same again would be as bad: a retry is warmer
                completion = await self._ask(client, episode, temperature=_RETRY_TEMPERATURE if extractions else 0.0)
            except PromptRefused as refusal:
                extraction = Extraction("", f"the model's server refused the transcript: {refusal}")
                await store.add(episode.id, self.name, len(extractions) + 1, extraction)
                return []  # it would be refused again, until another start of the stage
            extractions.append(
                Extraction(
                    completion.text,
                    self._find_problem(completion),
                    completion.prompt_tokens,
                    completion.completion_tokens,
                    completion.cached_tokens,
                )
            )
            await store.add(episode.id, self.name, len(extractions), extractions[-1])
        return [] if extractions[-1].problem else self.read(extractions[-1].reply)[0]

    async def _ask(self, client: ChatClient, episode: Episode, *, temperature: float) -> Completion:
        """Return the model's reply; ask less strictly for JSON where the server refuses the stricter way."""
        while True:
            response_format = self._formats[0]
            try:
                return await client.complete(
                    [{"role": "user", "content": self._build_prompt(episode)}],
                    temperature=temperature,
                    max_tokens=self._max_tokens,
                    **({"response_format": response_format} if response_format else {}),
                )
            except ParameterRefused as refusal:
                if refusal.parameter != "response_format" or response_format is None:
                    raise
                if response_format is self._formats[0]:  # else another request found out already
                    self._formats.pop(0)
                    _log.warning("the extractor's server refuses this response_format, trying another: %s", refusal)

    def _find_problem(self, completion: Completion) -> str:
        problem = self.read(completion.text)[1]
        if problem and completion.finish_reason == "length":
            return f"{problem}; it was cut at spec.models.extractor.maxTokens ({self._max_tokens})"
        return problem

    def read(self, reply: str) -> tuple[list[str], str]:
        """Return a reply's hints, normalized, and the problem with the reply (empty if there is none)."""
        settings = self._context.spec.hints
        hints = find_hints(reply)
        if hints is None:
            return [], "not the JSON that was asked for"
        texts = [normalize(text, max_length=settings.max_length) for text in hints]
        usable = list(dict.fromkeys(filter(None, texts)))[: settings.max_per_failure]
        if not usable:
            return [], f"no hint of 1 to {settings.max_length} characters"
        return usable, ""

    def _build_prompt(self, episode: Episode) -> str:
        settings = self._context.spec.hints
        lines = [episode.initial_observation]
        for turn in episode.turns:
            lines += [f"> {turn.reply}", turn.observation]
        return _PROMPT.format(
            least=1,
            most=settings.max_per_failure,
            length=settings.max_length,
            category=episode.task.category,
            placeholders=", ".join(self._context.environment.placeholders),
            goal=episode.task.goal,
            transcript=_shorten("\n".join(lines)),
            stop=_STOPS.get(episode.stop, episode.stop),
        )


def list_response_formats(max_hints: int) -> list[dict[str, Any] | None]:
    """Return response formats to try in turn: a schema, one without bounds that more servers know, and none.

    Args:
        max_hints: hints that a reply may have.
    """
    return [_build_response_format({"minItems": 1, "maxItems": max_hints}), _build_response_format({}), None]


def _build_response_format(bounds: dict[str, int]) -> dict[str, Any]:
    hints = {"type": "array", "items": {"type": "string"}, **bounds}
    schema = {"type": "object", "properties": {"hints": hints}, "required": ["hints"], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "hints", "schema": schema, "strict": True}}


def _shorten(transcript: str) -> str:
    """Return a transcript without its middle if it is too long: the task and the end are what teaches."""
    if len(transcript) <= _MAX_TRANSCRIPT:
        return transcript
    half = _MAX_TRANSCRIPT // 2
    return f"{transcript[:half]}\n[...]\n{transcript[-half:]}"


_STOPS = {
    "steps": "it ran out of steps",
    "turns": "it ran out of turns",
    "repetition": "it repeated itself",
    "context": "its transcript grew too long",
    "refused": "the model's server refused to answer",
    "done": "the environment ended the episode",
    REPORTED: "its user said that it had failed",
}


def format_reply(hints: Sequence[str]) -> str:
    """Format a good reply, for tests and fakes."""
    return json.dumps({"hints": list(hints)})
