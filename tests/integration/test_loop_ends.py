"""Runs that end early: before anything is played, by a failure, until users' failures have gathered, by patience."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.integration import gate
from tests.integration.loop import MICRO, Home, document, rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {"student": {"model": "/nowhere/at/all"}}}, r"model /nowhere/at/all: there is no such folder"),
        ({"agent": {"name": "reactt"}}, r'spec\.agent\.name: "reactt": no agent of this name .*did you mean react\?'),
        (
            {"environment": {"options": {"games": "alfworld"}}},
            r"ALFWorld's own games are wanted, and \$ALFWORLD_DATA isn't set",
        ),
        (
            {"models": {"student": {"model": str(MICRO)}, "extractor": {"endpoint": {"baseURL": "http://127.0.0.1:1/v1",
             "model": "m", "apiKeySecretRef": {"name": "openai", "key": "token"}}}}},
            r"secret openai, key token: no such file",
        ),
    ],
)  # fmt: skip
def test_run_is_refused_before_it_plays_when_its_spec_is_wrong(
    folder: Path, dsn: str, change: dict[str, Any], message: str
):
    home = Home(folder, {"DISTILLERY_DATABASE_URL": dsn})
    path = home.write(document(f"wrong-{abs(hash(message)) % 10**8}", **change))
    refused = home.call("run", path)
    assert refused.returncode == 78
    assert re.search(message, refused.stderr)


def test_failed_run_is_retried_waits_for_sessions_and_ends_by_patience(folder: Path, dsn: str):
    """What users would have played is taken from the run's own failures: real texts, under other names."""
    home = Home(folder, {"DISTILLERY_DATABASE_URL": dsn, **gate.install(folder / "plugins")})
    key = folder / "key"
    run = document(
        "fed-back",
        evaluation={"arms": ["baseline", "distilled"]},
        promotion={"gate": {"minImprovement": 0.99}},
        rounds={"maxRounds": 3, "patience": 2, "trigger": {"minFailures": 2}},
        serving={"feedback": {}},
    )
    run["spec"]["environment"] |= {"name": "gate", "options": {"key": str(key)}}
    run["spec"]["environment"]["tasks"] |= {"train": 12, "evaluate": 6}
    run["spec"]["training"]["epochs"] = 1
    path = home.write(run)
    failed = home.call("run", path)
    assert failed.returncode == 78
    assert f"Stage prepare failed after 1 attempt: the key {key} is not there" in failed.stderr
    assert f"Fix the cause; to resume: distillery run {path}" in failed.stderr
    status = " ".join(home.call("status", "fed-back").stdout.split())
    assert "Failed. Stage prepare failed after 1 attempt" in status
    assert "To try again: distillery retry default/fed-back" in status

    key.touch()
    done = home.call("retry", "fed-back")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Inconclusive" in done.stdout
    assert "Round 2 of 3 waits for 2 failures of users. 0 are there: run it again once enough" in done.stdout
    assert "Waiting" in home.call("status", "fed-back").stdout

    # more held-out tasks: the round that ended is judged again before the next one begins
    fail_as_users(dsn)
    run["spec"]["environment"]["tasks"]["evaluate"] = 8
    done = home.call("run", home.write(run))
    assert done.returncode == 0, done.stdout + done.stderr
    (first,) = rows(dsn, "SELECT result FROM stage WHERE name = 'r1-promote'")
    assert [look["heldOutTasks"] for look in first["result"]["earlierLooks"]] == [6]
    assert {arm["n"] for arm in first["result"]["arms"].values()} == {8 - first["result"]["leftOut"]}
    few, many = (pinned_tasks(home, number) for number in (6, 8))
    assert (many["train"], many["evaluate"][:6], len(many["evaluate"])) == (few["train"], few["evaluate"], 8)
    assert home.result("fed-back", "r2-hints")["live"] == {"claimed": 3}
    live = rows(dsn, "SELECT round, category, goal, task_id FROM episode WHERE arm = 'live' ORDER BY task_id")
    assert [(row["round"], row["task_id"]) for row in live] == [(2, f"live/user-{number}") for number in range(3)]
    assert all(row["category"] and row["goal"] for row in live)

    status = home.call("status", "fed-back").stdout
    assert "No promotion in 2 rounds in a row." in status
    assert "r3-rollout" not in status


def pinned_tasks(home: Home, number: int) -> dict[str, Any]:
    (tasks,) = (home.folder / "home" / "runs").glob(f"default/fed-back/*/prepare-{number}/tasks.json")
    return json.loads(tasks.read_text())


def fail_as_users(dsn: str) -> None:
    """Keep three failed episodes of the run as sessions of users."""
    played = rows(
        dsn,
        """SELECT prompt_prefix, array_agg(turn.reply ORDER BY index) AS replies,
                  array_agg(turn.observation ORDER BY index) AS observations
           FROM episode JOIN turn ON episode_id = episode.id
           WHERE arm = 'own' AND NOT success GROUP BY episode.id LIMIT 3""",
    )
    with psycopg.connect(dsn) as connection:
        for number, one in enumerate(played):
            messages = list(one["prompt_prefix"])
            for reply, observation in zip(one["replies"], one["observations"], strict=True):
                messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": observation}]
            *messages, _ = messages  # the last observation is never sent
            answer = messages.pop()["content"]
            connection.execute(
                """INSERT INTO session (run_id, name, alias, messages, answer, turns, success, started_at, updated_at)
                   SELECT id, %s, 'fed-back', %s, %s, %s, false, now(), now() FROM run""",
                (f"user-{number}", Jsonb(messages), answer, len(messages) + 1),
            )
