"""The log that a user sees, and how much of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from distillery.cli.commands.logs import choose_stage, find_start_of_end, print_end, print_from


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
    assert choose_stage(stages, known) == chosen


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


def test_log_continues_where_it_ended_or_starts_over_when_replaced(log: Path, capfd: pytest.CaptureFixture[str]):
    position = print_end(log, lines=0)
    with log.open("a") as file:
        file.write("four\n")
    position = print_from(log, position)
    log.write_text("new\n")
    print_from(log, position)
    assert capfd.readouterr().out == "four\nnew\n"


@pytest.mark.parametrize(("lines", "shown"), [(1, "two"), (2, "one\ntwo"), (5, "one\ntwo")])
def test_end_of_a_log_includes_a_line_that_is_still_being_written(
    tmp_path: Path, lines: int, shown: str, capfd: pytest.CaptureFixture[str]
):
    path = tmp_path / "vllm.log"
    path.write_text("one\ntwo")
    assert print_end(path, lines=lines) == 7
    assert capfd.readouterr().out == shown


class CountingFile(io.FileIO):
    """A file that counts the bytes that are read from it."""

    count = 0

    def read(self, size: int | None = -1, /) -> Any:
        content = super().read(size)
        self.count += len(content or b"")
        return content


@pytest.fixture
def large_log(tmp_path: Path) -> Path:
    """Return a log of 64 GiB, most of it a hole, with 10,000 lines at its end."""
    path = tmp_path / "vllm.log"
    with path.open("wb") as file:
        file.truncate(64 << 30)
        file.seek(0, io.SEEK_END)
        file.write(b"\n" + b"".join(b"line %04d\n" % number for number in range(10_000)))
    return path


@pytest.mark.parametrize(("lines", "most"), [(0, 0), (10, 1 << 16), (9_000, 1 << 17)])
def test_end_of_a_large_log_is_found_in_its_last_blocks(large_log: Path, lines: int, most: int):
    with CountingFile(large_log) as file:
        start = find_start_of_end(file, lines)
    assert start == large_log.stat().st_size - 10 * lines
    assert file.count <= most


def test_end_of_a_large_log_is_printed(large_log: Path, capfd: pytest.CaptureFixture[str]):
    assert print_end(large_log, lines=2) == large_log.stat().st_size
    assert capfd.readouterr().out == "line 9998\nline 9999\n"
