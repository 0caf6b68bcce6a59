"""The report as page and as table."""

from __future__ import annotations

import re
from typing import Any

from distillery.report.page import render_page
from distillery.report.table import COLUMNS, markdown, rows


def arm(success: float) -> dict[str, Any]:
    return {
        "n": 140, "tasks": 140, "successes": round(140 * success), "success": success, "score": success,
        "ci": [success - 0.05, success + 0.05], "steps": 8.5, "tokens": 1234.0, "uncachedTokens": None,
        "invalidActions": 0.1, "broken": 0,
    }  # fmt: skip


def report(hint: str = "look for a mug in desk") -> dict[str, Any]:
    arms = {"base": arm(0.4), "distilled": arm(0.9)}
    comparison = {
        "a": "distilled", "b": "base", "metric": "success", "tasks": 140, "difference": 0.5, "ci": [0.4, 0.6],
        "onlyA": 70, "onlyB": 0, "p": 1e-20, "pHolm": 1e-20, "test": "exact McNemar",
    }  # fmt: skip
    gate = {"verdict": "Successful", "reason": "The student is better."}
    ended = {
        "round": 1, "arms": arms, "comparisons": [comparison], "gate": gate, "promoted": True,
        "training": {"own": {"n": 800, "successes": 370, "steps": 12.0}}, "bank": {},
        "students": {"distilled": {"student": None, "learntFrom": {"arm": "teacher", "episodes": 0}}},
    }  # fmt: skip
    return {
        "run": "default/test", "distillery": "0.1.0", "agent": "plain", "maxSteps": 15, "arms": arms, "gate": gate,
        "environment": {"name": "alfworld", "source": "generated games (seed 0)", "split": "valid_seen"},
        "base": {"model": "m", "revision": None, "sha256": "0"}, "comparisons": [comparison], "promoted": True,
        "rounds": [ended, {**ended, "round": 2}], "retriever": {"name": "embedding", "k": 3},
        "hints": [{"text": hint, "category": "", "mentions": 9, "round": 1, "extractor": "miner", "model": "",
                   "uses": 3, "successWith": 0.9, "successWithout": None}],
        "stages": [{"name": "prepare", "started": "2026-11-25T12:00:00+00:00", "seconds": 65.0}],
    }  # fmt: skip


def test_hints_cannot_write_into_the_page():
    page = render_page(report('<script>alert("x")</script>'))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_page_needs_no_network_and_no_scripts():
    page = render_page(report())
    assert not re.findall(r'(?:src|href)="(?!#)[^"]+"', page)
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_page_tells_the_source_of_the_tasks_and_the_verdict():
    page = render_page(report())
    assert "generated games (seed 0), split valid_seen" in page
    assert "The student is better." in page
    assert page.count("<svg") == 2


def test_the_table_is_the_same_on_the_terminal_and_as_markdown():
    (base, distilled) = rows(report())
    assert base == ("base", "140", "40.0", "35.0 - 45.0", "", "", "8.5", "1,234")
    assert distilled[4:6] == ("+50.0", "< 1e-15")
    text = markdown(report())
    assert text.splitlines()[0] == f"| {' | '.join(COLUMNS)} |"
    assert "Tasks: generated games (seed 0), split valid_seen. Successful. The student is better." in text
