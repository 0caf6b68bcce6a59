"""What fails in use comes home: it is kept, without what is secret, and starts the next round."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.e2e.run.test_loop import query
from tests.e2e.support import serving
from tests.e2e.support.cluster import RUN, Namespace
from tests.e2e.support.serving import FAILURES, MESSAGES, NAME, serve

pytestmark = pytest.mark.full

SECRET = "write to ann@example.org, key sk-0123456789abcdefghijklmnopqrstuvwxyz"
SUCCESS = "session-of-bob"


def play(client: openai.OpenAI, session: str, *, success: bool) -> None:
    """Two turns, and how it ended."""
    messages: list[Any] = list(MESSAGES)
    parameters: dict[str, Any] = {"model": NAME, "temperature": 0, "max_tokens": 24, "stop": ["\n"]}
    for stream in (False, True):
        answer: Any = client.chat.completions.create(
            **parameters, messages=messages, stream=stream, extra_headers={"X-Session-ID": session}
        )
        if stream:
            reply = "".join(part.choices[0].delta.content or "" for part in answer if part.choices)
        else:
            reply = answer.choices[0].message.content or ""
        messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": f"Nothing happens. {SECRET}"}]
    outcome = {"model": NAME, "session": session, "success": success, "task": "put some book in bed"}
    client.post("/outcomes", body=outcome, cast_to=object)


def test_next_round_starts_when_enough_redacted_failures_are_recorded(adapters: Namespace):
    serve(adapters, 0)
    serve(adapters, 1)
    assert adapters.status(NAME)["phase"] == "Waiting"
    with adapters.forward(f"service/{NAME}", 8000) as address:
        client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0, timeout=120)
        play(client, SUCCESS, success=True)
        for number in range(FAILURES):
            play(client, f"session-{number}", success=False)

    def kept() -> list[dict[str, Any]]:
        return query(
            adapters, NAME,
            "SELECT name, success, turns, task, messages::text AS messages, answer FROM session "
            "WHERE name LIKE 'session-%' AND success IS NOT NULL AND messages IS NOT NULL",
        )  # fmt: skip

    adapters.wait_for("all sessions", lambda: len(kept()) > FAILURES, seconds=120)
    found = {row["name"]: row for row in kept()}
    assert {session for session, row in found.items() if row["success"]} == {SUCCESS}
    assert {row["task"] for row in found.values()} == {"put some book in bed"}
    for row in found.values():
        assert "Your task is to: put some book in bed." in row["messages"]
        assert "[redacted]" in row["messages"]
        assert not any(word in json.dumps(row) for word in SECRET.split() if "@" in word or "sk-" in word)
        assert row["answer"]

    adapters.wait_for("round 2", lambda: adapters.stage(NAME, "r2-rollout"), run=NAME, seconds=300)
    # what the round comes to is for other tests: these machines are small
    adapters.kubectl("patch", RUN, NAME, "--type=merge", "--patch", '{"spec": {"suspend": true}}')
    adapters.wait_for("the suspension", lambda: adapters.status(NAME)["phase"] == "Suspended", seconds=300)
    serving.wait_until_served(adapters, 1)
