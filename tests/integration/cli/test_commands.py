"""The commands that look at runs of this machine, on a real Postgres."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Json

from distillery.cli.commands import compare, hints, logs, status
from distillery.cli.display.overview import parse_stored_run
from distillery.cli.parser import build_parser
from distillery.core.api import InvalidRun, parse
from distillery.core.planner import StageId, StagePhase, StageResult, StageState
from distillery.database import Database
from distillery.database.runs import RunLock, RunStore
from distillery.database.stages import StageStore
from distillery.local import workspace
from tests.unit.documents import document
from tests.unit.reports import arm

PREPARE, ROLLOUT = StageId.parse("prepare"), StageId.parse("r1-rollout")
ARMS = {"evaluation": {"arms": ["baseline", "distilled"]}}


@pytest.fixture(autouse=True)
def here(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine, with nothing but the test's database."""
    monkeypatch.setenv("DISTILLERY_DATABASE_URL", dsn)
    monkeypatch.setenv("DISTILLERY_HOME", str(tmp_path))


@pytest.fixture
async def run_id(database: Database) -> int:
    """Return a run that is playing its first round."""
    run_id = await RunStore(database).register(parse(document(**ARMS)))
    await StageStore(database, run_id).begin(PREPARE, 1)
    await StageStore(database, run_id).end(PREPARE, StageState(StagePhase.SUCCEEDED))
    await StageStore(database, run_id).begin(ROLLOUT, 1)
    await StageStore(database, run_id).report_progress(ROLLOUT, done=1, total=96, unit="episodes")
    return run_id


async def complete(database: Database, name: str) -> None:
    """Record a run whose only round ended without a promotion."""
    run_id = await RunStore(database).register(
        parse({**document(**ARMS, rounds={"maxRounds": 1}), "metadata": {"name": name}})
    )
    for stage in ("prepare", *(f"r1-{kind}" for kind in STAGES), "r1-promote"):
        await StageStore(database, run_id).begin(StageId.parse(stage), 1)
        result: dict[str, Any] = {"student": "s"}
        if stage == "r1-promote":
            gate = {"verdict": "Inconclusive", "reason": "Too few tasks."}
            arms = {"baseline": arm(0.5), "distilled": arm(0.6)}
            result |= {"gate": gate, "promoted": False, "metric": 0.5, "arms": arms}
        await StageStore(database, run_id).end(
            StageId.parse(stage), StageState(StagePhase.SUCCEEDED, result=StageResult.read(result))
        )


STAGES = ("rollout", "hints", "teach", "evaluate-baseline", "train-distilled", "evaluate-distilled")


async def test_status_shows_pending_stages_and_no_time_left_when_interrupted(
    run_id: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    (tmp_path / "runs" / "default" / "test" / "logs").mkdir(parents=True)
    assert await status.show_status(build_parser().parse_args(["status", "test"])) == 0
    shown = capsys.readouterr().out
    assert "default/test  Interrupted. Round 1 of 1: r1-rollout. It is not running" in shown
    assert "Running" not in shown
    assert "left" not in shown
    assert [line.split()[:2] for line in shown.splitlines()[1:9]] == [
        ["✓", "prepare"], ["■", "r1-rollout"], *(["·", f"r1-{name}"] for name in STAGES[1:]), ["·", "r1-promote"],
    ]  # fmt: skip
    assert f"logs: distillery logs default/test, from {tmp_path}/runs/default/test/logs" in shown


async def test_status_is_json_when_a_script_asks(
    database: Database, run_id: int, dsn: str, capsys: pytest.CaptureFixture[str]
):
    async with RunLock(dsn, run_id):
        assert await status.show_status(build_parser().parse_args(["status", "test", "--json"])) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["phase"], found["round"], found["maxRounds"]) == ("default/test", "Running", 1, 1)
    assert found["lockHolder"].startswith("process ")
    assert [(one["name"], one["phase"], one["done"]) for one in found["stages"]] == [
        ("prepare", "succeeded", 0),
        ("r1-rollout", "running", 1),
    ]
    assert found["pending"] == [*(f"r1-{name}" for name in STAGES[1:]), "r1-promote"]
    await status.show_status(build_parser().parse_args(["status", "--json"]))
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["phase"], found["lockHolder"]) == ("Interrupted", None)


@pytest.mark.parametrize("width", [80, 140])
async def test_list_fits_the_terminal_and_shows_each_verdict(
    width: int, database: Database, run_id: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    await complete(database, "a-run-with-quite-a-long-name")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert await status.show_list(build_parser().parse_args(["list"])) == 0
    lines = [line for line in capsys.readouterr().out.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()]
    assert max(map(len, lines)) <= width
    assert ("MODEL" in lines[0]) == (width == 140)
    assert lines[1].split()[:3] == ["default/test", "Interrupted", "1/1"]
    assert lines[2].split()[1:6] == ["Complete", "1/1", "50.0", "60.0", "Inconclusive"]


async def test_list_shows_other_runs_when_one_is_unreadable(
    database: Database, run_id: int, capsys: pytest.CaptureFixture[str]
):
    await complete(database, "other")
    await database.execute("UPDATE run SET document = %s WHERE id = %s", Json({"spec": {"curriculum": 1}}), run_id)
    await status.show_list(build_parser().parse_args(["list"]))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["default/test", "Unreadable"], ["default/other", "Complete"]]
    await status.show_status(build_parser().parse_args(["status", "test"]))
    assert "To delete the run: distillery delete default/test" in capsys.readouterr().out
    with pytest.raises(InvalidRun, match="or delete it: distillery delete default/test"):
        parse_stored_run((await database.fetch("SELECT * FROM run WHERE id = %s", run_id))[0])


async def show_logs(*arguments: str) -> int:
    return await logs.show_logs(build_parser().parse_args(["logs", "test", *arguments]))


def write_logs() -> None:
    folder = workspace.folder_of_key("default/test") / "logs"
    folder.mkdir(parents=True)
    for name in ("prepare", "r1-rollout", "vllm"):
        (folder / f"{name}.log").write_text(f"{name} one\n{name} two\n")


async def test_logs_fail_with_the_folder_when_there_are_none(run_id: int, capfd: pytest.CaptureFixture[str]):
    assert await show_logs() == 1
    assert "run default/test has no logs in " in capfd.readouterr().err


async def test_logs_are_of_the_stage_that_started_last(run_id: int, capfd: pytest.CaptureFixture[str]):
    write_logs()
    assert await show_logs() == 0
    shown = capfd.readouterr()
    assert shown.out == "r1-rollout one\nr1-rollout two\n"
    assert shown.err == "log of r1-rollout; others: prepare, vllm\n"


async def test_logs_are_of_the_stage_that_is_named(run_id: int, capfd: pytest.CaptureFixture[str]):
    write_logs()
    assert await show_logs("vllm", "--tail", "1") == 0
    assert capfd.readouterr() == ("vllm two\n", "")


async def test_logs_suggest_a_stage_when_its_name_is_unknown(run_id: int, capfd: pytest.CaptureFixture[str]):
    write_logs()
    assert await show_logs("r1-rolout") == 1
    assert "there is no log of r1-rolout in " in (shown := capfd.readouterr().err)
    assert "did you mean r1-rollout?" in shown


async def test_logs_look_for_an_unknown_run_on_the_cluster(
    run_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError) as raised:
        await logs.show_logs(build_parser().parse_args(["logs", "tset"]))
    here, there = str(raised.value).splitlines()
    assert here == "on this machine there is no run default/tset; known: default/test"
    assert there == "on the cluster: runs on a cluster need kubectl, which is not installed here"


async def test_hints_are_shown_as_written_and_as_json(
    database: Database, run_id: int, capsys: pytest.CaptureFixture[str]
):
    text = "open [/drawer] first [red]"
    await database.execute(
        """INSERT INTO hint (bank, environment, agent, text, round, extractor, embedding)
           VALUES ('default/test', 'alfworld', %s, %s, 1, 'llm', array_fill(0.1, ARRAY[384])::halfvec)""",
        parse(document()).spec.agent.name, text,
    )  # fmt: skip
    assert await hints.show_hints(build_parser().parse_args(["hints", "test"])) == 0
    assert text in capsys.readouterr().out
    assert await hints.show_hints(build_parser().parse_args(["hints", "test", "--json"])) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["text"], found["uses"], found["extractor"]) == (text, 0, "llm")


async def test_running_runs_of_this_host_are_counted(database: Database, run_id: int, dsn: str):
    host = socket.gethostname()
    other = await RunStore(database).register(parse({**document(), "metadata": {"name": "other"}}))
    assert await RunStore(database).count_driven(host) == 0
    async with RunLock(dsn, run_id), RunLock(dsn, other):
        assert await RunStore(database).count_driven(host) == 2
        assert await RunStore(database).count_driven(f"not-{host}") == 0
        await database.execute("UPDATE run SET lock_holder = 'process 1 on a on b since 2026'")
        assert await RunStore(database).count_driven("b") == 0, "the text of lock_holder is for people"
        await database.execute("UPDATE run SET lock_host = %s WHERE id = %s", f"not-{host}", other)
        assert (await RunStore(database).count_driven(host), await RunStore(database).count_driven(f"not-{host}")) == (
            1,
            1,
        )
    async with RunLock(dsn, other):
        assert await RunStore(database).count_driven(host) == 1


async def test_compare_shows_settings_that_differ(database: Database, run_id: int, capsys: pytest.CaptureFixture[str]):
    await RunStore(database).register(
        parse({**document(**ARMS, rounds={"maxRounds": 3}), "metadata": {"name": "other"}})
    )
    assert await compare.show_comparison(build_parser().parse_args(["compare", "test", "other"])) == 0
    shown = capsys.readouterr().out
    assert [line.split() for line in shown.splitlines() if "spec." in line] == [["spec.rounds.maxRounds", "1", "3"]]
    assert "a round has to end in both runs" in shown


async def test_compare_is_json_when_a_script_asks(database: Database, capsys: pytest.CaptureFixture[str]):
    for name, won in (("test", False), ("other", True)):
        await complete(database, name)
        for task in ("a", "b"):
            await database.execute(
                """INSERT INTO episode (run_id, round, arm, task_id, split, category, goal, seed, phase, success, score,
                                        stop_reason, steps, invalid_actions, turns)
                   SELECT id, 1, 'baseline', %s, 'valid', 'c', 'g', 0, 'finished', %s, 0, 'steps', 1, 0, 1
                   FROM run WHERE key = %s""",
                task, won, f"default/{name}",
            )  # fmt: skip
    assert await compare.show_comparison(build_parser().parse_args(["compare", "test", "other", "--json"])) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["first"]["phase"], found["second"]["phase"], found["settings"]) == ("Complete", "Complete", [])
    (shown,) = found["arms"]
    facts = {name: shown[name] for name in ("arm", "first", "second", "difference", "tasks")}
    assert facts == {"arm": "baseline", "first": 0, "second": 1, "difference": 1, "tasks": 2}
