"""Traffic counts requests, errors and outcomes of each target while its routing config is in use."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from distillery.core.contracts.routing import RoutingConfig, Target
from distillery_gateway.auth.api_keys import digest_of
from distillery_gateway.routing.traffic_stats import TrafficStats
from tests.unit.gateway.conftest import Serve, Served, routing_config

BODY = {"model": "bot", "messages": [{"role": "user", "content": "a secret task"}]}
OUTCOME = {"model": "bot", "session": "s-1", "success": True}
NOTHING = {"requests": 0, "errors": 0, "outcomes": 0, "successes": 0, "slow": 0}
SLOW = {**NOTHING, "requests": 1, "slow": 1}
FAILED = {**NOTHING, "requests": 1, "errors": 1}


def split(generation: int = 2, *, weight: int = 50) -> RoutingConfig:
    old, new = Target("base", 100 - weight, student="base"), Target("new", weight, student="0123456789ab")
    return routing_config(generation, bot=(old, new))


def apply(served: Served, table: RoutingConfig) -> None:
    served.vllm.adapters["new"] = "/adapters/new"
    assert served.routes.try_apply(table, {"base", "new"})


async def until(met: Any) -> None:
    async with asyncio.timeout(10):
        while not met():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def report_outcome(served: Served, session: str, *, success: bool = True, **headers: str) -> int:
    return (await served.post({**OUTCOME, "session": session, "success": success}, "/v1/outcomes", **headers))[0]


async def test_outcome_counts_for_the_target_that_answered_its_session(serve: Serve):
    served = await serve()
    apply(served, split())
    for number in range(40):
        session = f"s-{number}"
        _, answer = await served.post(BODY, X_Session_ID=session)
        status, reply = await served.post(
            {**OUTCOME, "session": session, "success": answer["model"] == "new", "reward": 0.5, "task": "put it there"},
            "/v1/outcomes",
        )
        assert (status, reply) == (200, {"session": session, "model": "bot", "counted": True})
    counts = served.routes.traffic.snapshot()
    old, new = counts["base"], counts["0123456789ab"]
    assert old["requests"] + new["requests"] == 40
    assert (old["outcomes"], old["successes"]) == (old["requests"], 0)
    assert (new["outcomes"], new["successes"]) == (new["requests"], new["requests"])
    assert new["requests"] > 0
    assert len(served.vllm.requests) == 40, "outcomes are not forwarded"
    assert served.metrics.outcomes.labels("bot", "student-0123456789ab", "true")._value.get() == new["outcomes"]


async def test_outcome_counts_once_for_each_routing_config(serve: Serve):
    served = await serve()
    for table in (split(2), split(3, weight=10)):
        apply(served, table)
        await served.post(BODY, X_Session_ID="s-1")
        assert [await report_outcome(served, "s-1"), await report_outcome(served, "s-1", success=False)] == [200, 200]
        counts = served.routes.traffic.snapshot().values()
        assert [sum(c[name] for c in counts) for name in ("outcomes", "successes")] == [1, 1]


def outcomes(served: Served) -> int:
    return sum(counts["outcomes"] for counts in served.routes.traffic.snapshot().values())


async def test_outcome_does_not_count_when_its_session_has_no_request(serve: Serve):
    served = await serve()
    apply(served, split())
    body = {**OUTCOME, "session": "made-up"}
    assert await served.post(body, "/v1/outcomes") == (200, {"session": "made-up", "model": "bot", "counted": False})
    assert outcomes(served) == 0
    await served.post(BODY, X_Session_ID="made-up")
    assert (await served.post(body, "/v1/outcomes"))[1]["counted"]
    assert outcomes(served) == 1
    apply(served, split(3, weight=10))
    assert not (await served.post(body, "/v1/outcomes"))[1]["counted"], "it was answered under another table"


async def test_outcome_does_not_count_when_the_session_has_another_key(serve: Serve, tmp_path: Path):
    for name in ("ann", "bob"):
        (tmp_path / name).write_text(digest_of(name))
    served = await serve(keys=tmp_path)
    apply(served, split())
    await served.post(BODY, X_Session_ID="s-1", Authorization="Bearer ann")
    assert await report_outcome(served, "s-1", Authorization="Bearer bob") == 200
    assert outcomes(served) == 0
    assert await report_outcome(served, "s-1", Authorization="Bearer ann") == 200
    assert outcomes(served) == 1


async def test_outcome_counts_for_stable_when_the_canary_was_away(serve: Serve):
    served = await serve()
    apply(served, split(weight=99))
    served.routes.set_loaded_models({"base"})
    sessions = [f"s-{number}" for number in range(10)]
    for session in sessions:
        assert (await served.post(BODY, X_Session_ID=session))[1]["model"] == "base"
    served.routes.set_loaded_models({"base", "new"})
    for session in sessions:
        await report_outcome(served, session)
    assert served.routes.traffic.snapshot()["base"]["outcomes"] == 10


async def test_session_is_named_by_the_field_user(serve: Serve):
    served = await serve()
    await served.post({**BODY, "user": "u-1"})
    await report_outcome(served, "u-1")
    assert outcomes(served) == 1


async def test_traffic_remembers_a_limited_number_of_sessions():
    target = Target("base")
    live = TrafficStats([target])
    for number in range(50_001):
        with live.request(target, session=f"s-{number}".encode()):
            pass
    assert live.count_outcome(b"s-50000", success=True) == target
    assert live.count_outcome(b"s-50000", success=True) is None
    assert live.count_outcome(b"s-0", success=True) is None, "the oldest is forgotten"


@pytest.mark.parametrize(
    ("body", "status", "code", "parameter"),
    [
        (b"{", 400, "invalid_json", None),
        ({**OUTCOME, "extra": 1}, 400, "unknown_parameter", "extra"),
        ({"session": "s", "success": True}, 400, "missing_parameter", "model"),
        ({"model": "bot", "success": True}, 400, "missing_parameter", "session"),
        ({"model": "bot", "session": "s"}, 400, "missing_parameter", "success"),
        ({**OUTCOME, "session": ""}, 400, "invalid_parameter", "session"),
        ({**OUTCOME, "session": "x" * 129}, 400, "invalid_parameter", "session"),
        ({**OUTCOME, "session": "a b"}, 400, "invalid_parameter", "session"),
        ({**OUTCOME, "session": "sessión"}, 400, "invalid_parameter", "session"),
        ({**OUTCOME, "session": 7}, 400, "invalid_parameter", "session"),
        ({**OUTCOME, "success": 1}, 400, "invalid_parameter", "success"),
        ({**OUTCOME, "reward": 1.5}, 400, "invalid_parameter", "reward"),
        ({**OUTCOME, "reward": True}, 400, "invalid_parameter", "reward"),
        (json.dumps({**OUTCOME, "reward": float("nan")}).encode(), 400, "invalid_json", None),
        ({**OUTCOME, "task": "x" * 2001}, 400, "invalid_parameter", "task"),
        ({**OUTCOME, "task": ["x"]}, 400, "invalid_parameter", "task"),
        ({**OUTCOME, "model": "other"}, 404, "model_not_found", "model"),
    ],
)  # fmt: skip
async def test_outcome_is_refused_with_its_field_when_it_is_wrong(
    serve: Serve, body: Any, status: int, code: str, parameter: str | None
):
    served = await serve()
    got, answer = await served.post(body, "/v1/outcomes")
    assert (got, answer["error"]["code"], answer["error"]["param"]) == (status, code, parameter)
    assert served.routes.traffic.snapshot()["base"]["outcomes"] == 0


async def test_outcome_needs_a_valid_key_and_counts_for_its_limits(serve: Serve, tmp_path: Path):
    for name, more in (("ann", {"requestsPerMinute": 1}), ("bob", {"models": ["other"]})):
        (tmp_path / name).write_text(json.dumps({"sha256": digest_of(name), **more}))
    served = await serve(keys=tmp_path)
    assert await report_outcome(served, "s-1") == 401
    assert await report_outcome(served, "s-1", Authorization="Bearer bob") == 404
    assert await report_outcome(served, "s-1", Authorization="Bearer ann") == 200
    assert await report_outcome(served, "s-2", Authorization="Bearer ann") == 429


async def test_outcome_is_refused_when_the_method_is_get(serve: Serve):
    served = await serve()
    async with served.session.get(f"{served.url}/v1/outcomes") as answer:
        assert answer.status == 405


async def test_log_has_no_session_and_no_task_of_an_outcome(serve: Serve, caplog: pytest.LogCaptureFixture):
    served = await serve()
    with caplog.at_level(logging.DEBUG, "distillery_gateway"):
        await served.post({**OUTCOME, "session": "session-of-ann", "task": "a secret task"}, "/v1/outcomes")
    assert "status=200" in caplog.text
    assert "session-of-ann" not in caplog.text
    assert "a secret task" not in caplog.text


async def hang(_: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


def answers(status: int) -> Any:
    async def answer(_: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=status)

    return answer


@pytest.mark.parametrize("status", [500, 503, 404, 429, 401, 403])
async def test_traffic_counts_an_error_when_the_server_fails_or_is_full(serve: Serve, status: int):
    served = await serve()
    served.vllm.answer = answers(status)
    await served.post(BODY)
    assert served.routes.traffic.snapshot() == {"base": FAILED}


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_traffic_counts_nothing_when_the_request_is_invalid(serve: Serve, status: int):
    served = await serve()
    served.vllm.answer = answers(status)
    assert (await served.post(BODY))[0] == status
    assert served.routes.traffic.snapshot() == {"base": NOTHING}


async def test_limit_of_the_canary_gateway_counts_as_an_error(serve: Serve):
    canary, served = await serve(max_concurrent_requests=1), await serve()
    target = Target("bot", upstream=canary.url, student="0123456789ab")
    assert served.routes.try_apply(routing_config(2, bot=(target,)), {"base"})
    served.vllm.answer = hang
    running = asyncio.create_task(served.post(BODY))
    await until(lambda: served.vllm.requests)
    assert (await served.post({**BODY, "user": "another"}))[0] == 429
    assert served.routes.traffic.snapshot()["0123456789ab"] == FAILED
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_traffic_counts_an_error_when_a_stream_breaks(serve: Serve):
    served = await serve()
    served.vllm.breaks = True
    with pytest.raises(aiohttp.ClientError):
        await served.post({**BODY, "stream": True})
    await until(lambda: served.routes.traffic.snapshot()["base"]["requests"])
    assert served.routes.traffic.snapshot()["base"]["errors"] == 1


async def test_traffic_counts_a_dead_server_but_no_rejected_request(serve: Serve):
    served = await serve()
    await served.post({**BODY, "extra": 1})
    assert served.routes.traffic.snapshot()["base"] == NOTHING
    await served.vllm._runner.cleanup()
    await served.post(BODY)
    assert served.routes.traffic.snapshot()["base"] == {**NOTHING, "requests": 1, "errors": 1}


async def test_traffic_counts_no_error_when_the_client_left(serve: Serve):
    served = await serve()
    await served.leave(BODY)
    await until(lambda: served.routes.traffic.snapshot()["base"]["requests"])
    assert served.routes.traffic.snapshot()["base"]["errors"] == 0


async def test_metrics_name_merged_students_by_their_digests(serve: Serve):
    served = await serve()
    assert served.routes.try_apply(routing_config(2, bot=(Target("base", student="0123456789ab"),)), {"base"})
    assert (await served.post(BODY, X_Session_ID="s-1"))[0] == 200
    assert await report_outcome(served, "s-1") == 200
    student = "student-0123456789ab"
    await until(lambda: served.metrics.requests.labels("bot", student, "", "200")._value.get())
    assert served.metrics.outcomes.labels("bot", student, "true")._value.get() == 1


async def test_request_counts_for_the_config_that_it_began_under(serve: Serve):
    served = await serve()
    served.vllm.pause = 0.3
    running = asyncio.create_task(served.post({**BODY, "stream": True}))
    await until(lambda: served.vllm.requests)
    apply(served, split())
    assert served.routes.traffic.snapshot() == {"base": NOTHING, "0123456789ab": NOTHING}
    with pytest.raises(ValueError, match="Expecting value"):  # a stream of events, whole
        await running
    assert served.routes.traffic.snapshot() == {"base": NOTHING, "0123456789ab": NOTHING}


def shadowed(shadow: Target) -> RoutingConfig:
    table = routing_config(2, bot=(Target("base", student="base"),))
    return RoutingConfig(2, table.adapters, table.aliases, {"bot": shadow})


async def test_shadow_gets_copies_and_its_errors_count(serve: Serve):
    async def answer(body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"model": body["model"]}, status=500 if body["model"] == "new" else 200)

    served = await serve()
    served.vllm.answer = answer
    apply(served, shadowed(Target("new", student="0123456789ab")))
    status, reply = await served.post({**BODY, "stream": True, "stream_options": {"include_usage": True}})
    assert (status, reply["model"]) == (200, "base")
    await until(lambda: served.routes.traffic.snapshot()["0123456789ab"]["requests"])
    sent = {request["model"]: request for request in served.vllm.requests}
    asked = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
    assert sent["new"] == {**asked, "model": "new", "max_completion_tokens": 8192}, (
        "as the client asked: else its first token comes at the end"
    )
    assert served.routes.traffic.snapshot() == {
        "base": {**NOTHING, "requests": 1},
        "0123456789ab": {**NOTHING, "requests": 1, "errors": 1},
    }


async def test_copy_for_another_gateway_has_the_alias_and_the_key(serve: Serve):
    served = await serve()
    shadow = Target("bot", upstream=served.vllm.url, student="0123456789ab")
    assert served.routes.try_apply(shadowed(shadow), {"base"})
    assert (await served.post(BODY, Authorization="Bearer x"))[0] == 200
    await until(lambda: served.routes.traffic.snapshot()["0123456789ab"]["requests"])
    found = {r["model"]: h.get("authorization") for r, h in zip(served.vllm.requests, served.vllm.headers, strict=True)}
    assert found == {"base": None, "bot": "Bearer x"}


def conversation(first: str, turns: int) -> dict[str, Any]:
    """An agent's request after so many turns."""
    played = [{"role": "assistant", "content": "go"}, {"role": "user", "content": "You went."}]
    opening = [{"role": "system", "content": "Be good."}, {"role": "user", "content": first}]
    return {"model": "bot", "messages": opening + played * turns}


async def test_conversation_stays_with_one_student_when_it_has_no_header(serve: Serve):
    served = await serve()
    apply(served, split())
    students = set[str]()
    for number in range(20):
        first = f"task {number}"
        answered = {(await served.post(conversation(first, turns)))[1]["model"] for turns in range(6)}
        assert len(answered) == 1
        students |= answered
    assert students == {"base", "new"}


async def test_conversations_differ_when_their_keys_differ(serve: Serve, tmp_path: Path):
    names = [f"key-{number}" for number in range(20)]
    for name in names:
        (tmp_path / name).write_text(digest_of(name))
    served = await serve(keys=tmp_path)
    apply(served, split())
    answered = [await served.post(BODY, Authorization=f"Bearer {name}") for name in names]
    assert {answer["model"] for _, answer in answered} == {"base", "new"}
