"""Hints from a language model: a fake server, the real database."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from distillery.agents.react import ReAct
from distillery.core.api import parse
from distillery.database import Database
from distillery.database.episode_queue import EpisodeQueue, EpisodeRequest, Worker
from distillery.database.extractions import ExtractionStore
from distillery.episodes import Episode
from distillery.hints.base import ExtractionContext, HintCandidate
from distillery.hints.extractors.llm import LanguageModel
from tests.fakes.agents import FakeEnvironment, episode, task, turn
from tests.fakes.chat_server import FakeServer, completion, refusal
from tests.unit.documents import document

GOOD = json.dumps({"hints": ["Look on the  DESK first.", "open the drawer before you look into it"]})


async def ignore(done: int, total: int) -> None: ...


@pytest.fixture
async def failures(database: Database, run_id: int) -> list[Episode]:
    queue = EpisodeQueue(database, run_id, round=1, arms=["own"], worker=Worker("w", 60))
    await queue.enqueue(EpisodeRequest(task(number, category="heat"), "own") for number in range(2))
    agent = ReAct(FakeEnvironment())
    episodes = []
    for lease in await queue.lease(2):
        prefix = agent.build_prefix(lease.task, "A room with a desk 1.", hints=(), examples=0)
        turns = [turn("go to sofa 1", "Nothing happens.", valid=False)]
        played = episode(
            turns, prefix=prefix, initial_observation="A room with a desk 1.", of=lease.task, success=False
        )
        episodes.append(replace(played, id=lease.episode_id))
    return episodes


async def extract(
    database: Database,
    failures: list[Episode],
    reply: Callable[[int], str],
    *,
    context: int = 10**6,
    refuse: Callable[[dict[str, Any]], web.Response | None] = lambda body: None,
    extractor: dict[str, Any] | None = None,
    **hints: Any,
) -> tuple[list[HintCandidate], FakeServer]:
    async def answer(body: dict[str, Any]) -> web.Response:
        if refused := refuse(body):
            return refused
        if len(body["messages"][0]["content"]) > context:
            return web.json_response({"message": f"the context's length is {context}"}, status=400)
        return completion(reply(len(server.requests)))

    async with FakeServer(answer) as server:
        models = {
            "student": {"model": "/m"},
            "extractor": {"endpoint": {"baseURL": server.base_url, "model": "m"}, **(extractor or {})},
        }
        inputs = ExtractionContext(
            spec=parse(document(models=models, hints=hints)).spec,
            environment=FakeEnvironment({}, Path()),
            database=database,
            api_key="k",
            report=ignore,
        )
        return await LanguageModel(inputs).extract(failures), server


async def test_hints_are_normalized_typed_and_merged(database: Database, failures: list[Episode]):
    candidates, _ = await extract(database, failures, lambda n: GOOD)
    assert {(m.category, m.text, len(m.episode_ids)) for m in candidates} == {
        ("heat", "look on the desk first.", 2),
        ("heat", "open the drawer before you look into it", 2),
    }


async def test_model_reads_the_whole_failure_and_is_asked_for_json(database: Database, failures: list[Episode]):
    _, server = await extract(database, failures[:1], lambda n: GOOD)
    prompt = server.requests[0]["messages"][0]["content"]
    for part in (
        failures[0].task.goal,
        "A room with a desk 1.",
        "> go to sofa 1\nNothing happens.",
        "{object}",
        '"heat"',
    ):
        assert part in prompt
    asked = server.requests[0]["response_format"]
    assert asked["type"] == "json_schema"
    bounds = asked["json_schema"]["schema"]["properties"]["hints"]
    assert (bounds["minItems"], bounds["maxItems"]) == (1, 4)
    assert server.requests[0]["temperature"] == 0.0


@pytest.mark.parametrize(
    "bad",
    [
        "no json",
        '{"hints": []}',
        '{"hints": [1]}',
        json.dumps({"hints": ["x" * 200]}),
        '{"hints": ["..."]}',
        '{"advice": "a"}',
    ],
)
async def test_unusable_reply_is_kept_and_requested_once_more(database: Database, failures: list[Episode], bad: str):
    candidates, server = await extract(database, failures[:1], lambda n: bad if n == 1 else GOOD)
    assert len(candidates) == 2
    assert [request["temperature"] for request in server.requests] == [0.0, 0.7]
    rows = await database.fetch("SELECT attempt, reply, problem <> '' AS bad FROM extraction ORDER BY attempt")
    assert rows == [{"attempt": 1, "reply": bad, "bad": True}, {"attempt": 2, "reply": GOOD, "bad": False}]


async def test_extractor_makes_two_calls_when_replies_are_unusable(database: Database, failures: list[Episode]):
    candidates, server = await extract(database, failures[:1], lambda n: "babble")
    assert candidates == []
    assert len(server.requests) == 2


async def test_extractor_makes_no_call_when_hints_were_extracted(database: Database, failures: list[Episode]):
    first, _ = await extract(database, failures, lambda n: GOOD)
    second, server = await extract(database, failures, lambda n: "must not be asked")
    assert second == first
    assert server.requests == []


async def test_extractor_keeps_no_more_hints_than_configured(database: Database, failures: list[Episode]):
    many = json.dumps({"hints": [f"hint number {n}" for n in range(9)]})
    candidates, _ = await extract(database, failures[:1], lambda n: many, maxPerFailure=3)
    assert len(candidates) == 3


async def test_prompt_has_both_ends_of_a_transcript_that_is_too_long(database: Database, failures: list[Episode]):
    turns = [turn(f"go to sofa {number}", "x" * 4000) for number in range(100)]
    _, server = await extract(database, [replace(failures[0], turns=tuple(turns))], lambda n: GOOD)
    prompt = server.requests[0]["messages"][0]["content"]
    assert len(prompt) < 65_000
    for part in ("A room with a desk 1.", "> go to sofa 0\n", "\n[...]\n", "> go to sofa 99\n"):
        assert part in prompt
    assert "> go to sofa 50\n" not in prompt


async def test_failure_gives_no_hints_when_it_does_not_fit_the_model(database: Database, failures: list[Episode]):
    long = replace(failures[0], turns=(turn("go to sofa 1", "x" * 30_000),))
    candidates, _ = await extract(database, [long, failures[1]], lambda n: GOOD, context=20_000)
    assert {candidate.episode_ids for candidate in candidates} == {(failures[1].id,)}
    rows = await database.fetch("SELECT DISTINCT reply, problem FROM extraction WHERE episode_id = %s", long.id)
    assert [row["reply"] for row in rows] == [""]
    assert "refused the transcript" in rows[0]["problem"]


async def test_failure_gives_no_hints_when_the_server_refuses_it(database: Database, failures: list[Episode]):
    refused = replace(failures[0], turns=(turn("go to sofa 1", "something vile"),))

    def refuse(body: dict[str, Any]) -> web.Response | None:
        return refusal(400, "flagged", code="content_filter") if "vile" in str(body["messages"]) else None

    candidates, server = await extract(database, [refused, failures[1]], lambda n: GOOD, refuse=refuse)
    assert {candidate.episode_ids for candidate in candidates} == {(failures[1].id,)}
    assert len(server.requests) == 2, "what was refused is not asked for again at once"
    rows = await database.fetch("SELECT reply, problem FROM extraction WHERE episode_id = %s", refused.id)
    assert [row["reply"] for row in rows] == [""]
    assert "flagged" in rows[0]["problem"]


@pytest.mark.parametrize("refused", ["minItems", "json_schema"])
async def test_format_that_the_server_refuses_is_not_sent_again(
    database: Database, failures: list[Episode], refused: str
):
    def refuse(body: dict[str, Any]) -> web.Response | None:
        if refused in json.dumps(body.get("response_format", {})):
            return refusal(400, f"Invalid response_format: {refused} is not permitted")
        return None

    first, _ = await extract(database, failures[:1], lambda n: GOOD, refuse=refuse)
    second, server = await extract(database, failures, lambda n: GOOD, refuse=refuse)
    assert (len(first), {len(candidate.episode_ids) for candidate in second}) == (2, {2})
    formats = [refused in json.dumps(request.get("response_format", {})) for request in server.requests]
    assert formats[-1] is False
    assert sum(formats) == (1 if refused == "minItems" else 2)


async def test_tokens_of_extraction_are_kept_and_summed(database: Database, run_id: int, failures: list[Episode]):
    _, server = await extract(database, failures, lambda n: "babble" if n == 1 else GOOD, extractor={"maxTokens": 77})
    assert len(server.requests) == 3
    assert {request["max_tokens"] for request in server.requests} == {77}
    assert await ExtractionStore(database).count_tokens(run_id) == {
        1: {"prompt": 30, "completion": 9, "cached": None, "calls": 3}
    }


async def test_reply_that_was_cut_names_the_field_to_raise(database: Database, failures: list[Episode]):
    await extract(
        database, failures[:1], lambda n: "", refuse=lambda body: completion('{"hints": ["lo', finish_reason="length")
    )
    rows = await database.fetch("SELECT DISTINCT problem FROM extraction")
    assert rows[0]["problem"].endswith("it was cut at spec.models.extractor.maxTokens (4000)")
