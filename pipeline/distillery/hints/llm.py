"""The extractor that asks a language model what a failed episode teaches (arXiv 2510.01375, section 3.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distillery.agents import Episode
from distillery.hints.base import ExtractionContext, Mention, normalise
from distillery.hints.live import REPORTED
from distillery.rollouts.client import ChatClient, PromptTooLong

_IN_FLIGHT = 16
_TRIES = 2
_MAX_TOKENS = 600
_MOST_TRANSCRIPT = 60_000  # characters: some 15,000 tokens; users' sessions may be many times as long
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


class _Answer(BaseModel):
    """What the model is to answer."""

    model_config = ConfigDict(extra="forbid")
    hints: list[str] = Field(min_length=1)


class LanguageModel:
    """One call per failure. A bad reply is kept, counted and asked for once more."""

    name: ClassVar[str] = "llm"

    def __init__(self, context: ExtractionContext) -> None:
        self._context = context
        assert context.spec.models.extractor is not None, "the resource's rules see to it"
        self._endpoint = context.spec.models.extractor.endpoint

    @property
    def model(self) -> str:
        """The model's name at its endpoint."""
        return self._endpoint.model

    async def extract(self, failures: Sequence[Episode]) -> list[Mention]:
        """The hints of all failures; those already extracted are read back from the database."""
        done, room = 0, asyncio.Semaphore(_IN_FLIGHT)

        async def one(episode: Episode) -> list[Mention]:
            nonlocal done
            async with room:
                hints = await self._extract(client, episode)
            done += 1
            await self._context.report(done, len(failures))
            return [Mention(episode.task.category, text, (episode.id,)) for text in hints]

        timeout = self._context.spec.rollout.request_timeout_seconds
        async with ChatClient(
            self._endpoint.base_url, self._endpoint.model, api_key=self._context.api_key, timeout=timeout
        ) as client:
            found = await asyncio.gather(*map(one, failures))
        merged: dict[tuple[str, str], list[int]] = {}
        for mention in (mention for mentions in found for mention in mentions):
            merged.setdefault((mention.category, mention.text), []).extend(mention.episode_ids)
        return [Mention(category, text, tuple(ids)) for (category, text), ids in merged.items()]

    async def _extract(self, client: ChatClient, episode: Episode) -> list[str]:
        rows = await self._context.database.fetch(
            "SELECT reply, problem FROM extraction WHERE episode_id = %s AND extractor = %s ORDER BY attempt",
            episode.id, self.name,
        )  # fmt: skip
        replies = [(row["reply"], row["problem"]) for row in rows]
        while True:
            if replies and (not replies[-1][1] or len(replies) >= _TRIES):
                reply, problem = replies[-1]
                return [] if problem else self.read(reply)[0]
            try:
                completion = await client.complete(
                    [{"role": "user", "content": self._prompt(episode)}],
                    temperature=_RETRY_TEMPERATURE if replies else 0.0,  # the same again would be as bad
                    max_tokens=_MAX_TOKENS,
                    response_format={
                        "type": "json_schema",
                        "json_schema": {"name": "hints", "schema": self._schema(), "strict": True},
                    },
                )
                reply = completion.text
                _, problem = self.read(reply)
            except PromptTooLong as error:
                reply, problem = "", f"the transcript does not fit the model's context: {error}"
            await self._context.database.execute(
                """INSERT INTO extraction (episode_id, extractor, attempt, reply, problem)
                   VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
                episode.id, self.name, len(replies) + 1, reply.replace("\0", ""), problem.replace("\0", ""),
            )  # fmt: skip
            replies.append((reply, problem))

    def read(self, reply: str) -> tuple[list[str], str]:
        """A reply's hints, normalised, and what is wrong with it (empty if nothing)."""
        settings = self._context.spec.hints
        try:
            answer = _Answer.model_validate_json(reply)
        except ValidationError as error:
            return [], f"not the JSON that was asked for: {error.errors()[0]['msg']}"
        texts = [normalise(text, max_length=settings.max_length) for text in answer.hints]
        usable = list(dict.fromkeys(filter(None, texts)))[: settings.per_failure]
        if not usable:
            return [], f"no hint of 1 to {settings.max_length} characters"
        return usable, ""

    def _schema(self) -> dict[str, Any]:
        hints = {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "maxItems": self._context.spec.hints.per_failure,
        }
        return {
            "type": "object",
            "properties": {"hints": hints},
            "required": ["hints"],
            "additionalProperties": False,
        }

    def _prompt(self, episode: Episode) -> str:
        settings = self._context.spec.hints
        lines = [episode.opening]
        for turn in episode.turns:
            lines += [f"> {turn.reply}", turn.observation]
        return _PROMPT.format(
            least=1,
            most=settings.per_failure,
            length=settings.max_length,
            category=episode.task.category,
            placeholders=", ".join(self._context.environment.placeholders),
            goal=episode.task.goal,
            transcript=_shortened("\n".join(lines)),
            stop=_STOPS.get(episode.stop, episode.stop),
        )


def _shortened(transcript: str) -> str:
    """A transcript that is too long without its middle: what was to be done, and how it ended, is what teaches."""
    if len(transcript) <= _MOST_TRANSCRIPT:
        return transcript
    half = _MOST_TRANSCRIPT // 2
    return f"{transcript[:half]}\n[...]\n{transcript[-half:]}"


_STOPS = {
    "steps": "it ran out of steps",
    "calls": "it ran out of turns",
    "repetition": "it repeated itself",
    "context": "its transcript grew too long",
    "done": "the environment ended the episode",
    REPORTED: "its user said that it had failed",
}


def dumps(hints: Sequence[str]) -> str:
    """A good reply, for tests and fakes."""
    return json.dumps({"hints": list(hints)})
