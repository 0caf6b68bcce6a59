"""The extractor that asks a language model what a failed episode teaches (arXiv 2510.01375, section 3.2)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from distillery.database.extractions import Extraction, add_extraction, read_extractions
from distillery.episodes import REPORTED, Episode
from distillery.hints.base import ExtractionContext, Mention, normalise
from distillery.hints.extractors.replies import hints_in
from distillery.llm.client import ChatClient, Completion, ParameterRefused, PromptRefused

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
    """One call per failure. A bad reply is kept, counted and asked for once more."""

    name: ClassVar[str] = "llm"

    def __init__(self, context: ExtractionContext) -> None:
        self._context = context
        assert context.spec.models.extractor is not None, "the resource's rules see to it"
        self._endpoint = context.spec.models.extractor.endpoint
        self._max_tokens = context.spec.models.extractor.max_tokens
        self._formats = response_formats(context.spec.hints.max_per_failure)
        """How JSON is asked for, the strictest first; what the server refuses is dropped for all later requests."""

    @property
    def model(self) -> str:
        """The model's name at its endpoint."""
        return self._endpoint.model

    async def extract(self, failures: Sequence[Episode]) -> list[Mention]:
        """Return the hints of all failures; those already extracted are read back from the database."""
        done, room = 0, asyncio.Semaphore(_IN_FLIGHT)

        async def one(episode: Episode) -> list[Mention]:
            nonlocal done
            async with room:
                hints = await self._extract(client, episode)
            done += 1
            await self._context.report(done, len(failures))
            return [Mention(episode.task.category, text, (episode.id,)) for text in hints]

        rollout = self._context.spec.rollout
        async with ChatClient(
            self._endpoint.base_url,
            self._endpoint.model,
            api_key=self._context.api_key,
            parameters=self._endpoint.parameters,
            field="spec.models.extractor.endpoint",
            timeout=rollout.request_timeout_seconds,
            patience=rollout.patience_seconds,
        ) as client:
            found = await asyncio.gather(*map(one, failures))
        merged: dict[tuple[str, str], list[int]] = {}
        for mention in (mention for mentions in found for mention in mentions):
            merged.setdefault((mention.category, mention.text), []).extend(mention.episode_ids)
        return [Mention(category, text, tuple(ids)) for (category, text), ids in merged.items()]

    async def _extract(self, client: ChatClient, episode: Episode) -> list[str]:
        database = self._context.database
        made = await read_extractions(database, episode.id, self.name)
        while not made or (made[-1].problem and len(made) < _TRIES):
            try:
                # the same again would be as bad: a retry is warmer
                completion = await self._ask(client, episode, temperature=_RETRY_TEMPERATURE if made else 0.0)
            except PromptRefused as refusal:
                extraction = Extraction("", f"the model's server refused the transcript: {refusal}")
                await add_extraction(database, episode.id, self.name, len(made) + 1, extraction)
                return []  # it would be refused again, until another start of the stage
            made.append(
                Extraction(
                    completion.text,
                    self._problem(completion),
                    completion.prompt_tokens,
                    completion.completion_tokens,
                    completion.cached_tokens,
                )
            )
            await add_extraction(database, episode.id, self.name, len(made), made[-1])
        return [] if made[-1].problem else self.read(made[-1].reply)[0]

    async def _ask(self, client: ChatClient, episode: Episode, *, temperature: float) -> Completion:
        """The model's reply; asks less strictly for JSON where the server does not take the stricter way."""
        while True:
            asked = self._formats[0]
            try:
                return await client.complete(
                    [{"role": "user", "content": self._prompt(episode)}],
                    temperature=temperature,
                    max_tokens=self._max_tokens,
                    **({"response_format": asked} if asked else {}),
                )
            except ParameterRefused as refusal:
                if refusal.parameter != "response_format" or asked is None:
                    raise
                if asked is self._formats[0]:  # else another request found out already
                    self._formats.pop(0)
                    _log.warning("the extractor's server refuses this response_format, trying another: %s", refusal)

    def _problem(self, completion: Completion) -> str:
        problem = self.read(completion.text)[1]
        if problem and completion.finish_reason == "length":
            return f"{problem}; it was cut at spec.models.extractor.maxTokens ({self._max_tokens})"
        return problem

    def read(self, reply: str) -> tuple[list[str], str]:
        """Return a reply's hints, normalized, and the problem with the reply (empty if there is none)."""
        settings = self._context.spec.hints
        found = hints_in(reply)
        if found is None:
            return [], "not the JSON that was asked for"
        texts = [normalise(text, max_length=settings.max_length) for text in found]
        usable = list(dict.fromkeys(filter(None, texts)))[: settings.max_per_failure]
        if not usable:
            return [], f"no hint of 1 to {settings.max_length} characters"
        return usable, ""

    def _prompt(self, episode: Episode) -> str:
        settings = self._context.spec.hints
        lines = [episode.opening]
        for turn in episode.turns:
            lines += [f"> {turn.reply}", turn.observation]
        return _PROMPT.format(
            least=1,
            most=settings.max_per_failure,
            length=settings.max_length,
            category=episode.task.category,
            placeholders=", ".join(self._context.environment.placeholders),
            goal=episode.task.goal,
            transcript=_shortened("\n".join(lines)),
            stop=_STOPS.get(episode.stop, episode.stop),
        )


def response_formats(most: int) -> list[dict[str, Any] | None]:
    """Return response formats to try in turn: a schema, one without bounds that more servers know, and none.

    Args:
        most: hints that are wanted at most.
    """
    return [_response_format({"minItems": 1, "maxItems": most}), _response_format({}), None]


def _response_format(bounds: dict[str, int]) -> dict[str, Any]:
    hints = {"type": "array", "items": {"type": "string"}, **bounds}
    schema = {"type": "object", "properties": {"hints": hints}, "required": ["hints"], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "hints", "schema": schema, "strict": True}}


def _shortened(transcript: str) -> str:
    """A transcript that is too long without its middle: what was to be done, and how it ended, is what teaches."""
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


def dumps(hints: Sequence[str]) -> str:
    """Format a good reply, for tests and fakes."""
    return json.dumps({"hints": list(hints)})
