"""The report as page and as table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillery.core.api import parse
from distillery.formatting import format_age, format_clock, format_duration, format_points, format_short
from distillery.report.arms_table import COLUMNS, build_rows, format_markdown
from distillery.report.data import list_settings, suggest_commands, summarize
from distillery.report.page import build_legend, render_page, shorten_path, write_report
from tests.unit.documents import document
from tests.unit.reports import arm, report


def test_page_escapes_the_texts_of_models_and_environments():
    plain = render_page(report(wrote="x"))
    page = render_page(report(wrote='</td><script>alert("x")</script><img src=x onerror=alert(1)>'))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<") == plain.count("<")


def test_page_needs_no_network_and_no_scripts():
    page = render_page(report())
    assert not re.findall(r'(?:src|href)="(?!#|data:,)[^"]+"', page)
    assert "//" not in page.replace("http://www.w3.org", "")
    assert "default-src 'none'" in page


def test_page_shows_refused_episodes_and_cut_replies_of_an_arm():
    page = render_page(report())
    assert "distilled: 2 episodes refused by the model's server and 0 broken" in page.replace("&#39;", "'")
    assert "3.1 % of replies were cut" in page
    older = report()
    for one in older["arms"].values():
        del one["refused"], one["cutReplies"]
    assert "of replies were cut" not in render_page(older)


def test_page_shows_the_source_of_the_tasks_and_the_verdict():
    page = render_page(report())
    assert "generated games (seed 0), split valid_seen" in page
    assert "Promoted. The student is better." in page
    assert page.count("<svg") == 6  # three plots, each for wide and for narrow pages


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen2.5-14B-Instruct"),
        ("/models/student", "/models/student"),
        ("/home/me/distillery/models/micro", "…/models/micro"),
    ],
)
def test_place_shows_the_end_when_a_model_is_a_long_path(model: str, shown: str):
    assert shorten_path(model) == shown


def test_plots_describe_their_numbers_as_text():
    labels = re.findall(r'<svg class="wide" role="img" aria-label="([^"]+)"', render_page(report()))
    assert labels == [
        "Success of each arm with its 95 % interval: baseline 40.0 %, 35.0 to 45.0; distilled 90.0 %, 85.0 to 95.0.",
        "Success over rounds with 95 % intervals: round 1, base: 40.0 %; round 2, base: 40.0 %; "
        "round 1, started with: 40.0 %; round 2, started with: 40.0 %; "
        "round 1, distilled: 90.0 %; round 2, distilled: 90.0 %.",
        "When each stage ran, in order of start: r1-rollout 1:05 · 1.0M tokens; r1-rollout 1:05 · 1.0M tokens; "
        "r2-promote running.",
    ]


def test_page_has_no_id_twice():
    ids = re.findall(r'\bid="([^"]+)"', render_page(report()))
    assert len(ids) == len(set(ids))


def test_page_stays_short_and_counts_what_is_left_out():
    long = report(wrote="x" * 5000, hints=4000, stages=400)
    page = render_page({**long, "episodes": report()["episodes"]})  # those are cut where they are read
    assert len(page) < 250_000
    assert "The 30 most used of 4000 hints" in page
    assert "The last 60 of 400 stages" in page
    assert "2 of the 70 held-out episodes" in page


def test_page_leaves_out_what_the_run_did_not_have():
    made = report(hints=0)
    made |= {"arms": {}, "comparisons": [], "episodes": {"found": 0, "shown": []}, "rounds": made["rounds"][:1]}
    made["rounds"][0] |= {"arms": {}, "bank": {}, "students": {}, "training": {}}
    page = render_page(made)
    assert page.count("<svg") == 2
    assert "No held-out task was failed by the baseline and solved by the student." in page
    assert "All 0 hints." in page


def test_page_shows_unmatched_episodes_and_recitation_when_known():
    page = render_page(report())
    assert "<td>12.5</td>" in page
    assert "7 failed, 2 quotes a hint</td>" in page
    assert "Round 1 took 9 failed sessions of users; 4 of them were of held-out tasks and left out." in page
    assert "3 tasks were passed over as held-out ones under other ids." in page
    older = report()
    for name in ("dropped", "recitationRate"):
        del older["rounds"][0]["students"]["distilled"]["learnedFrom"][name]
    assert "<td>–</td>" in render_page(older)


def test_write_makes_the_data_and_the_page(tmp_path: Path):
    write_report(report(), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == report()
    assert (tmp_path / "report.html").read_text() == render_page(report())


def test_summary_names_the_solved_tasks_and_the_decision():
    gate = {"verdict": "Failed", "reason": "The student is worse."}
    ended = {"gate": gate, "promoted": False, "arms": {"baseline": arm(0.5), "distilled": arm(0.4)}}
    assert summarize(ended) == (
        "Not promoted. The student solved 56 of 140 held-out tasks; the model that the round started with solved "
        "70 of 140. The student is worse."
    )
    assert summarize({**ended, "arms": {}}) == "Not promoted. The student is worse."


def test_page_shows_dates_settings_seeds_the_adapter_and_the_next_command():
    page = render_page(report())
    assert "2026-11-25 12:00 to 2026-11-25 14:32 UTC" in page
    assert '<th scope="row" class="text">spec.environment.tasks.seed</th><td class="left text">3</td>' in page
    assert "[&#34;baseline&#34;, &#34;distilled&#34;]" in page
    assert "<code>/home/runs/default/test/r2-train-distilled</code>" in page
    assert "<dt>Serve the promoted student</dt><dd><code>distillery serve default/test</code></dd>" in page


def test_page_without_a_student_names_no_adapter():
    assert "Adapter of round" not in render_page(report() | {"adapter": None})


def test_legend_explains_the_arms_that_were_played():
    played = ["baseline", "distilled-matched", "distilled+rag"]
    assert [name for name, _ in build_legend(played)] == ["baseline", "distilled", "-matched", "+rag"]
    page = render_page(report())
    assert "<b>distilled</b>: learned from the teacher&#39;s successes" in page
    assert "placebo" not in page


def test_settings_are_those_that_differ_and_all_seeds():
    run = parse(document(rounds={"maxRounds": 3}, training={"learningRate": 0.004}))
    assert list_settings(run) == {
        "spec.environment.tasks.seed": 0,
        "spec.models.student.model": run.spec.models.student.model,
        "spec.training.learningRate": 0.004,
        "spec.training.seed": 42,
        "spec.rounds.maxRounds": 3,
    }


@pytest.mark.parametrize(
    ("rounds", "commands"),
    [
        ([(True, "s")], ["serve a"]),
        ([(False, "s")], ["serve a --round 1", "promote a --round 1"]),
        ([(True, "s"), (False, "t")], ["serve a", "serve a --round 2", "promote a --round 2"]),
        ([(False, None)], []),
    ],
)
def test_next_commands_depend_on_whether_a_student_was_promoted(
    rounds: list[tuple[bool, str | None]], commands: list[str]
):
    ended = [{"round": n, "promoted": won, "student": student} for n, (won, student) in enumerate(rounds, 1)]
    found = [one["command"] for one in suggest_commands("a", ended)]
    assert found == [f"distillery {command}" for command in (*commands, "hints a")]


@pytest.mark.parametrize(
    ("format_number", "expected"),
    [
        (format_short, {0: "0", 812: "812", 1_440: "1.4k", 23_400_000: "23M", 4e9: "4.0G"}),
        (format_clock, {5: "0:05", 65.9: "1:05", 3725: "1:02:05"}),
        (format_duration, {5: "5 s", 65.9: "1 min 06 s", 3725: "1 h 02 min", None: "–"}),
        (format_age, {-1: "0s", 59: "59s", 60: "1m", 7199: "1h", 86400: "1d"}),
        (format_points, {0.5: "+50.0", -0.071: "−7.1", None: "–"}),
    ],
)
def test_numbers_are_formatted_short_with_their_units(
    format_number: Callable[[Any], str], expected: dict[float | None, str]
):
    assert {number: format_number(number) for number in expected} == expected


def test_table_is_the_same_on_the_terminal_and_as_markdown():
    (base, distilled) = build_rows(report())
    assert base == ("baseline", "140", "40.0", "35.0 - 45.0", "", "", "8.5", "1,234")
    assert distilled[4:6] == ("+50.0", "< 1e-15")
    text = format_markdown(report())
    assert text.splitlines()[0] == f"| {' | '.join(COLUMNS)} |"
    assert "Tasks: generated games (seed 0), split valid_seen. Successful. The student is better." in text
