"""Which log a user sees, and how much of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillery.cli.logs import print_end, print_from, stage_of_interest


@pytest.mark.parametrize(
    ("phases", "known", "chosen"),
    [
        ({"prepare": "succeeded", "r1-rollout": "running"}, ["prepare", "r1-rollout", "vllm"], "r1-rollout"),
        ({"r1-rollout": "failed", "r1-hints": "succeeded"}, ["r1-hints", "r1-rollout"], "r1-rollout"),
        ({"prepare": "succeeded", "r1-rollout": "running"}, ["prepare"], "prepare"),
        ({"prepare": "running"}, ["vllm"], None),
        ({}, [], None),
    ],
)
def test_log_of_interest_is_of_the_failed_or_the_last_stage(phases: dict[str, str], known: list[str], chosen: str):
    stages = [{"name": name, "phase": phase} for name, phase in phases.items()]
    assert stage_of_interest(stages, known) == chosen


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "r1-rollout.log"
    path.write_bytes("one\ntwo\nthree ü\n".encode())
    return path


@pytest.mark.parametrize(
    ("lines", "shown"), [(None, "one\ntwo\nthree ü\n"), (2, "two\nthree ü\n"), (9, "one\ntwo\nthree ü\n"), (0, "")]
)
def test_end_of_a_log_has_as_many_lines_as_asked_for(
    log: Path, lines: int | None, shown: str, capfd: pytest.CaptureFixture[str]
):
    assert print_end(log, lines=lines) == log.stat().st_size
    assert capfd.readouterr().out == shown


def test_log_continues_where_it_ended_and_starts_over_when_it_began_again(log: Path, capfd: pytest.CaptureFixture[str]):
    position = print_end(log, lines=0)
    with log.open("a") as file:
        file.write("four\n")
    position = print_from(log, position)
    log.write_text("new\n")
    print_from(log, position)
    assert capfd.readouterr().out == "four\nnew\n"
