"""Progress on a terminal and elsewhere, and what GPUs do."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from distillery.cli.display.display import Display, Throughput
from distillery.cli.display.gpus import Gpu, parse_gpus, read_gpus
from distillery.cli.display.stage_table import (
    Snapshot,
    Tokens,
    build_table,
    describe_outlook,
    describe_stage,
    list_stages,
)
from distillery.core.api import parse
from distillery.core.planner import plan
from distillery.local.executor import RunProgress
from tests.unit.documents import document

STARTED = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
GPU = Gpu("0", "NVIDIA H100 80GB HBM3", 87.0, 61234.0, 81559.0, 412.3)


def row(name: str, phase: str = "succeeded", **other: Any) -> dict[str, Any]:
    finished = None if phase == "running" else STARTED + timedelta(seconds=90)
    started = datetime.now(UTC) - timedelta(seconds=100) if phase == "running" else STARTED
    return {
        "name": name, "phase": phase, "attempts": 1, "message": "", "permanent": False, "result": None,
        "done": 0, "total": 0, "unit": "",
        "started_at": started, "finished_at": finished, **other,
    }  # fmt: skip


def playing(done: int = 20) -> dict[str, Any]:
    return row("r1-rollout", "running", done=done, total=80, unit="episodes")


def printed(shown: Any) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_running_stage_shows_its_rate_time_left_and_cached_tokens():
    shown = describe_stage(playing(), rate=2.0, tokens=Tokens(9000, 1000, 4500))
    assert shown.endswith("  2.0/s  0:30 left  10k tokens, 50 % cached")
    assert shown.startswith("20/80 episodes  1:4")


def test_running_stage_shows_its_mean_rate_when_none_is_known():
    assert "  0.2/s  5:" in describe_stage(playing())


def test_tokens_show_no_cache_when_the_server_does_not_report_it():
    assert str(Tokens(900, 100, None)) == "1.0k tokens"


def test_throughput_is_counted_from_the_first_progress():
    throughput = Throughput()
    assert throughput.rate(playing(0), 0.0) is None
    assert throughput.rate(playing(0), 60.0) is None  # the model server starts
    assert throughput.rate(playing(10), 65.0) == 2.0
    assert throughput.rate(playing(40), 70.0) == 4.0
    assert throughput.rate(playing(0), 75.0) is None  # another attempt
    assert throughput.rate(playing(5), 80.0) == 1.0


def test_table_folds_the_oldest_done_stages_when_lines_are_few():
    rows = [row("prepare"), row("r1-hints"), row("r1-teach"), row("r1-train-sft", "failed", message="boom"), playing()]
    assert "2 stages" not in printed(build_table(Snapshot("run", "on it", rows), height=9))
    shown = printed(build_table(Snapshot("run", "on it", rows), height=8)).splitlines()
    assert shown[1].split() == ["✓", "2", "stages", "3:00"]
    assert [line.split()[1] for line in shown[2:]] == ["r1-teach", "r1-train-sft", "r1-rollout"]
    assert "boom" in printed(build_table(Snapshot("run", "on it", rows), height=3))


def played(name: str, minutes: float, **other: Any) -> dict[str, Any]:
    return row(name, finished_at=STARTED + timedelta(minutes=minutes), **other)


def test_table_lists_the_stages_to_come_and_counts_those_done():
    lines = printed(build_table(Snapshot("run", "", [row("prepare"), playing()], ["r1-hints", "r1-promote"])))
    assert [line.split() for line in lines.splitlines()[3:5]] == [["·", "r1-hints"], ["·", "r1-promote"]]
    assert lines.splitlines()[-1] == "1 of 4 stages done"


def test_table_names_the_stages_to_come_in_a_line_when_lines_are_few():
    rows, pending = [row("prepare"), playing()], ["r1-hints", "r1-teach", "r1-promote"]
    shown = printed(build_table(Snapshot("run", "", rows, pending), height=9))
    assert "·  3 more: r1-hints, r1-teach, r1-promote" in shown.splitlines()


def test_outlook_takes_durations_from_the_round_before():
    first = [row("prepare"), played("r1-rollout", 5), played("r1-hints", 2), played("r1-promote", 1)]
    assert describe_outlook([*first, playing() | {"name": "r2-rollout"}], ["r2-hints", "r2-promote"]) in (
        "1 of 4 stages done, some 6:20 left if they take as long as in round 1",
        "1 of 4 stages done, some 6:19 left if they take as long as in round 1",
    )
    assert (
        describe_outlook([*first, row("r2-rollout")], ["r2-hints", "r2-teach"]) == "2 of 4 stages done"
    )  # a new stage
    assert describe_outlook(first, []) == ""


def test_stages_are_interrupted_when_no_process_drives_the_run():
    run = parse(document())
    rows = [row("prepare"), playing(), row("r1-hints", "running")]
    for driven, phase in ((True, "running"), (False, "interrupted")):
        seen = list_stages(RunProgress(run, plan(run.spec, {}), rows, driven=driven))
        assert [one["phase"] for one in seen] == ["succeeded", phase, phase]
    assert describe_stage(seen[1]) == "interrupted at 20/80 episodes"
    assert describe_stage(seen[2]) == "interrupted"
    shown = printed(build_table(Snapshot("run", "", seen)))
    assert "■  r1-rollout" in shown
    assert "left" not in shown


def test_stage_shows_its_arms_when_there_are_several():
    run = parse(document(evaluation={"arms": ["baseline", "rag", "distilled"]}))
    rows = [playing() | {"name": "r1-evaluate-baseline"}]
    (seen,) = list_stages(RunProgress(run, plan(run.spec, {}), rows))
    assert describe_stage(seen).startswith("20/80 episodes, 2 arms")


@pytest.mark.parametrize("width", [80, 140])
def test_running_stage_takes_one_line_at_any_width(width: int):
    rows = [playing() | {"name": "r1-evaluate-distilled", "arms": 2, "done": 1234, "total": 4321}]
    console = Console(file=io.StringIO(), width=width)
    console.print(build_table(Snapshot("run", "", rows), width=width))
    assert len(console.file.getvalue().splitlines()) == 2  # type: ignore[attr-defined]


def test_display_prints_each_change_once_when_not_on_a_terminal():
    console = Console(file=io.StringIO(), width=40)
    run = parse(document())
    with Display(console) as display:
        for done in (20, 21):
            progress = RunProgress(run, plan(run.spec, {}), [row("prepare"), playing(done)])
            display(progress, tokens={"r1-rollout": Tokens(900, 100, 450)}, gpus=[GPU])
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line[10:] for line in lines] == [
        "✓ prepare: succeeded  1:30",
        lines[1][10:],
        "GPU 0  NVIDIA H100 80GB HBM3  87 % busy  59.8/79.6 GiB  412 W",
    ]
    assert lines[1].endswith("1.0k tokens, 50 % cached")
    assert "▶ r1-rollout: running  20/80 episodes" in lines[1]


def test_display_refreshes_the_table_in_place_when_on_a_terminal():
    console = Console(file=io.StringIO(), width=120, height=30, force_terminal=True)
    run = parse(document())
    with Display(console) as display:
        for done in (20, 40):
            display(RunProgress(run, plan(run.spec, {}), [row("prepare"), playing(done)]), gpus=[GPU])
            display._live.refresh()  # type: ignore[union-attr]
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1A" in written  # the cursor goes up again
    assert "20/80" in written
    assert "40/80" in written.split("20/80")[-1]
    assert "NVIDIA H100" in written


def test_gpu_leaves_out_what_its_driver_does_not_report():
    (gpu, mute) = parse_gpus(
        "0, NVIDIA A100, 3, 1024, 40960, 55.10\n1, Some GPU, [N/A], [N/A], [N/A], [Not Supported]\n"
    )
    assert str(gpu) == "GPU 0  NVIDIA A100  3 % busy  1.0/40.0 GiB  55 W"
    assert str(mute) == "GPU 1  Some GPU"
    assert parse_gpus("No devices were found\n") == []


@pytest.mark.parametrize(
    ("script", "found"),
    [("echo '0, Fake, 5, 1024, 2048, 7.5'", 1), ("echo 'has failed: no driver'; exit 9", 0), ("", 0)],
)
async def test_gpus_are_read_from_nvidia_smi_or_none_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, found: int
):
    if script:
        fake = tmp_path / "nvidia-smi"
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin" if script else str(tmp_path))
    assert len(await read_gpus()) == found
