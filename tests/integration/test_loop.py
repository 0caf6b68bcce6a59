"""The whole loop on real (generated) games with a real (tiny) model and vLLM, disturbed as real life disturbs it."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import psycopg
import pytest

from distillery.core.api import parse
from distillery.database import Database
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.episodes import EpisodeStore
from distillery.episodes import build_history
from distillery.training.samples import ChatRenderer, build_samples
from tests.integration.loop import MICRO, Home, document, rows, wait_for

TWO_ROUNDS = document(
    "two-rounds",
    rounds={"maxRounds": 2},
    # a gate that what a handful of games teach can pass
    evaluation={"arms": ["baseline", "rag", "sft", "distilled"]},
    promotion={"gate": {"confidence": 0.5}},
)


@pytest.fixture(scope="module")
def server() -> Generator[EmbeddedPostgres]:
    """Yield a database of the user's own, which the tests take away for a while."""
    with tempfile.TemporaryDirectory(prefix="distillery-test-") as folder, EmbeddedPostgres(Path(folder) / "pg") as own:
        yield own


@pytest.fixture(scope="module")
def home(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("loop")
    return Home(folder, {"DISTILLERY_DATABASE_URL": server.dsn, "DISTILLERY_CACHE": str(folder / "cache")})


def finished(dsn: str, arm: str) -> int:
    """Finished episodes of an arm in round 1; 0 before there is any."""
    try:
        return rows(dsn, "SELECT count(*) AS n FROM episode WHERE arm = %s AND phase = 'finished'", arm)[0]["n"]
    except psycopg.errors.UndefinedTable:
        return 0


@pytest.fixture(scope="module")
def disturbed(home: Home, server: EmbeddedPostgres) -> Home:
    """Return a run of two rounds: killed while the student plays, its database gone for a while as the teacher does."""
    path = home.write(TWO_ROUNDS)
    with home.start("run", path) as first:
        wait_for("a first finished episode", lambda: finished(server.dsn, "own") > 0, process=first)
        first.kill()
    with home.start("run", path) as second:
        wait_for("the teacher's first episode", lambda: finished(server.dsn, "teacher") > 0, process=second)

        blocked = home.call("run", path)
        assert blocked.returncode == 75
        assert re.search(
            rf"run default/two-rounds is already running: process {second.pid} on \S+ since", blocked.stderr
        )

        postmaster = server._server.get_pid()
        assert postmaster is not None
        os.kill(postmaster, signal.SIGQUIT)  # an immediate shutdown: connections are cut, nothing is saved
        time.sleep(30)
        assert second.poll() is None
        server.ensure_running()

        output, _ = second.communicate()
        assert second.returncode == 0, output
    return home


def test_two_rounds_go_from_failures_to_a_verdict_each(disturbed: Home, server: EmbeddedPostgres):
    stages = {row["name"]: row for row in rows(server.dsn, "SELECT * FROM stage")}
    kinds = ("rollout", "hints", "teach", "evaluate-baseline", "promote")
    kinds += tuple(f"{kind}-{student}" for kind in ("train", "evaluate") for student in ("sft", "distilled"))
    names = {"prepare", *(f"r{number}-{kind}" for number in (1, 2) for kind in kinds)}
    assert set(stages) == names | {"r2-sample", "r2-rollout-sft", "r2-evaluate-base"}
    assert {row["phase"] for row in stages.values()} == {"succeeded"}
    for number in (1, 2):
        gate = stages[f"r{number}-promote"]["result"]["gate"]
        assert gate["verdict"] in ("Successful", "Failed", "Inconclusive")
        assert re.search(r"over 32 tasks \(p = ", gate["reason"])


def test_every_game_has_one_counted_episode_per_arm(disturbed: Home, server: EmbeddedPostgres):
    found = rows(
        server.dsn,
        """SELECT round, arm, phase, count(*) AS n, count(DISTINCT task_id) AS tasks FROM episode
           GROUP BY round, arm, phase ORDER BY round, arm""",
    )
    always = {"own": 48, "teacher": 48, "baseline": 32, "rag": 32, "sft": 32, "distilled": 32}
    expected = {(number, arm): n for number in (1, 2) for arm, n in always.items()}
    expected |= {(2, "own-sft"): 48, (2, "base"): 32}
    assert {(row["round"], row["arm"]): (row["phase"], row["n"], row["tasks"]) for row in found} == {
        played: ("finished", n, n) for played, n in expected.items()
    }
    turns = rows(
        server.dsn,
        """SELECT episode.id FROM episode LEFT JOIN turn ON turn.episode_id = episode.id
           GROUP BY episode.id HAVING count(turn.index) <> episode.turns OR max(turn.index) <> episode.turns - 1""",
    )
    assert turns == []
    assert rows(server.dsn, "SELECT count(*) AS n FROM episode WHERE stop_reason = 'broken'")[0]["n"] == 0


def test_second_round_plays_with_the_promoted_student(disturbed: Home):
    first, second = (disturbed.result("two-rounds", f"r{number}-promote") for number in (1, 2))
    assert first["promoted"] == (first["gate"]["verdict"] == "Successful")
    promoted = "distilled" if first["promoted"] else "baseline"
    assert second["start"] == ("r1-train-distilled" if first["promoted"] else "base")
    # greedy, on the same tasks, with the same weights: it is not played again
    assert second["arms"]["baseline"] == first["arms"][promoted]
    assert second["arms"]["base"] == first["arms"]["baseline"]


def test_greedy_episodes_are_copied_when_their_inputs_did_not_change(disturbed: Home, server: EmbeddedPostgres):
    copies = rows(
        server.dsn,
        """SELECT new.arm, count(*) AS n, bool_and(new.hints = old.hints AND new.task_id = old.task_id) AS same,
                  bool_and(new.turns = (SELECT count(*) FROM turn WHERE episode_id = new.id)) AS complete
           FROM episode AS new JOIN episode AS old ON old.id = new.copied_from GROUP BY new.arm""",
    )
    found = {row["arm"]: row["n"] for row in copies}
    assert (found["base"], found["baseline"]) == (32, 32)
    assert found.keys() <= {"base", "baseline", "rag"}
    assert all(row["same"] and row["complete"] for row in copies)


def test_later_round_plays_new_tasks_and_a_share_of_failed_ones(disturbed: Home, server: EmbeddedPostgres):
    played = rows(
        server.dsn,
        """SELECT task_id, bool_or(round = 1) AS before, bool_or(round = 1 AND success) AS solved FROM episode
           WHERE arm = 'own' GROUP BY task_id HAVING bool_or(round = 2)""",
    )
    again = [row for row in played if row["before"]]
    assert (len(played), len(again)) == (48, 12)
    assert not any(row["solved"] for row in again)


def test_control_learns_in_no_round_from_a_student_that_saw_hints(disturbed: Home, server: EmbeddedPostgres):
    learned = disturbed.result("two-rounds", "r2-train-sft")["learnedFrom"]
    (own,) = rows(
        server.dsn,
        """SELECT count(*) FILTER (WHERE success AND invalid_actions <= 1) AS kept FROM episode
           WHERE (round, arm) IN ((1, 'own'), (2, 'own-sft'))""",
    )
    assert learned["episodes"] == own["kept"] > 0
    first, second = (disturbed.result("two-rounds", f"r{number}-promote")["students"] for number in (1, 2))
    assert {*first, *second} == {"sft", "distilled"}
    assert len({*first.values(), *second.values()}) == 4


def test_later_student_learns_from_every_round_and_starts_from_the_base(disturbed: Home, server: EmbeddedPostgres):
    students = [disturbed.result("two-rounds", f"r{number}-train-distilled") for number in (1, 2)]
    kept = rows(
        server.dsn,
        """SELECT round, count(*) AS n FROM episode WHERE arm = 'teacher' AND success AND invalid_actions <= 1
           GROUP BY round""",
    )
    by_round = {row["round"]: row["n"] for row in kept}
    assert students[0]["learnedFrom"]["episodes"] == by_round[1]
    assert students[1]["learnedFrom"]["episodes"] == by_round[1] + by_round[2]
    assert students[0]["student"] != students[1]["student"]
    assert [student["base"] for student in students] == [students[0]["base"]] * 2  # afresh from the base, both times


def test_later_round_extracts_hints_from_more_failures(disturbed: Home):
    hints = [disturbed.result("two-rounds", f"r{number}-hints") for number in (1, 2)]
    assert hints[1]["failures"] > hints[0]["failures"] > 0
    assert hints[1]["hints"] >= hints[0]["hints"] > 0


def test_prompts_have_hints_once_when_the_arm_is_hinted_and_else_none(disturbed: Home, server: EmbeddedPostgres):
    for row in rows(server.dsn, "SELECT arm, prompt_prefix, hints, prompt_spans FROM episode"):
        prompt = row["prompt_prefix"][0]["content"]
        assert len(row["prompt_prefix"]) == 1
        if row["arm"] in ("teacher", "rag"):
            assert 1 <= len(row["hints"]) <= 2
            _, start, end = row["prompt_spans"]["hints"]
            assert prompt[start:end].startswith("\nHints: look for a ")
            assert prompt.count("Hints:") == 1
        else:
            assert not row["hints"]
            assert "Hints:" not in prompt


def test_training_data_has_tasks_and_no_hints(disturbed: Home):
    for number in (1, 2):
        text = (disturbed.artifact("two-rounds", f"r{number}-train-distilled") / "dataset.jsonl").read_text()
        assert text.count("Your task is to") > 0
        assert "Hints" not in text


def test_later_turns_hit_the_servers_cache(disturbed: Home, server: EmbeddedPostgres):
    row = rows(
        server.dsn, "SELECT sum(prompt_tokens) AS prompt, sum(cached_tokens) AS cached FROM turn WHERE index > 0"
    )
    assert row[0]["cached"] > 0.3 * row[0]["prompt"]  # the CPU server caches in blocks of many tokens


def test_report_command_prints_the_report_as_data(disturbed: Home):
    printed = disturbed.call("report", "two-rounds", "--json")
    assert printed.returncode == 0, printed.stderr
    report = json.loads(printed.stdout)
    assert report["environment"] == {
        "name": "alfworld",
        "source": report["environment"]["source"],
        "split": "valid_seen",
    }
    assert report["environment"]["source"].startswith("generated")
    for arm in ("base", "baseline", "rag", "sft", "distilled"):
        assert {"n", "success", "ci", "steps", "tokens"} <= report["arms"][arm].keys()
        low, high = report["arms"][arm]["ci"]
        assert 0 <= low <= report["arms"][arm]["success"] <= high <= 1
    assert [(c["a"], c["b"]) for c in report["comparisons"]] == [
        ("baseline", "base"), ("rag", "base"), ("sft", "base"), ("distilled", "base"), ("distilled", "baseline"),
        ("distilled", "sft"), ("distilled", "rag"),
    ]  # fmt: skip
    assert all({"difference", "ci", "p"} <= comparison.keys() for comparison in report["comparisons"])
    assert {"verdict", "reason"} <= report["gate"].keys()
    assert [r["round"] for r in report["rounds"]] == [1, 2]


def test_report_is_a_page_without_links(disturbed: Home):
    verdict = disturbed.result("two-rounds", "r2-promote")["gate"]["verdict"]
    disturbed.call("report", "two-rounds")
    page = (disturbed.folder / "home/runs/default/two-rounds/report/report.html").read_text()
    assert verdict in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_status_names_the_phase_and_stages_when_the_run_is_complete(disturbed: Home):
    status = disturbed.call("status", "two-rounds")
    assert "Complete" in status.stdout
    assert "r2-promote" in status.stdout
    assert "default/two-rounds  Complete" in disturbed.call("status").stdout


def test_hints_prints_as_many_hints_as_asked_for(disturbed: Home):
    hints = disturbed.call("hints", "two-rounds", "--limit", "3")
    assert "look for a " in hints.stdout
    assert re.search(r"3 of \d+ hints", hints.stdout)


def test_report_names_the_existing_runs_when_the_name_is_unknown(disturbed: Home):
    unknown = disturbed.call("report", "nosuch")
    assert unknown.returncode == 1
    assert "known: default/two-rounds" in unknown.stderr


def test_complete_run_is_not_run_again(disturbed: Home, server: EmbeddedPostgres):
    before = rows(server.dsn, "SELECT count(*) AS n, max(finished_at) AS last FROM episode")
    again = disturbed.call("run", disturbed.folder / "two-rounds.yaml")
    assert again.returncode == 0, again.stderr
    assert "distilled" in again.stdout
    assert rows(server.dsn, "SELECT count(*) AS n, max(finished_at) AS last FROM episode") == before


def test_changed_specification_is_refused(disturbed: Home):
    changed = disturbed.write(
        document("two-rounds", rounds={"maxRounds": 3}, evaluation=TWO_ROUNDS["spec"]["evaluation"])
    )
    refused = disturbed.call("run", changed)
    assert refused.returncode == 78
    assert "spec.rounds.maxRounds: 3: the run exists with 2 here" in refused.stderr
    disturbed.write(TWO_ROUNDS)


async def test_promoted_student_answers_as_it_was_judged(disturbed: Home, server: EmbeddedPostgres):
    """``distillery serve``: first replies by the openai client, and token ids by vLLM's own tokenization."""
    promoted = [n for n in (1, 2) if disturbed.result("two-rounds", f"r{n}-promote")["promoted"]]
    if not promoted:
        refused = disturbed.call("serve", "two-rounds")
        assert refused.returncode == 1
        assert "has promoted no student yet" in refused.stderr
        pytest.fail("round 1 was expected to promote its student: 48 games teach where things lie")
    async with Database(server.dsn) as database:
        played = await EpisodeStore(database, 1).read(arms=["distilled"], rounds=[promoted[-1]])
    with disturbed.start("serve", "two-rounds", "--port", "0") as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        url = next(found[1] for line in lines if (found := re.search(r"serving two-rounds at (\S+);", line)))

        client = openai.OpenAI(base_url=url, api_key="none")
        assert [model.id for model in client.models.list()] == ["two-rounds"]
        same = 0
        for episode in played[:8]:
            messages: Any = list(episode.prompt_prefix.messages)
            answer = client.chat.completions.create(
                model="two-rounds",
                messages=messages,
                temperature=0,
                max_tokens=parse(TWO_ROUNDS).spec.agent.max_tokens,
                stop=["\n"],
            )
            same += (answer.choices[0].message.content or "").strip() == episode.turns[0].reply
        assert same >= 7  # rounding may tip one reply in a batch of another size

        await same_ids_in_training_and_in_the_server(url, played[:8])

        async with aiohttp.ClientSession() as session:
            for path in ("/v1/load_lora_adapter", "/collective_rpc", "/reset_prefix_cache"):
                async with session.post(url.removesuffix("/v1") + path, json={}) as refused:
                    assert refused.status == 404


async def same_ids_in_training_and_in_the_server(url: str, played: list[Any]) -> None:
    from transformers import AutoTokenizer

    from distillery.agents.plain import Plain
    from distillery_alfworld.environment import ALFWorld

    renderer = ChatRenderer(AutoTokenizer.from_pretrained(MICRO))
    agent = Plain(ALFWorld({"games": "generated"}, Path()))
    compared = 0
    async with aiohttp.ClientSession() as session:
        for episode in played:
            # a prompt that grew too long dropped its oldest turns: one sample for each beginning with a whole reply
            samples = build_samples(renderer, agent, episode, keep_examples=False)
            beginnings = list(dict.fromkeys(turn.first_turn for turn in episode.turns if not turn.cut))
            of = dict(zip(beginnings, samples, strict=True))
            for index, turn in enumerate(episode.turns):
                messages = build_history(episode.prompt_prefix.messages, episode.turns[:index], turn.first_turn)
                body = {"model": "two-rounds", "messages": messages, "add_generation_prompt": True}
                async with session.post(url.removesuffix("/v1") + "/tokenize", json=body) as answer:
                    seen = (await answer.json())["tokens"]
                assert len(seen) == turn.prompt_tokens
                if turn.first_turn in of:
                    assert list(of[turn.first_turn].ids[: len(seen)]) == seen
                    compared += 1
    assert compared
