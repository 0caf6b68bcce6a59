"""The tables of the command line fit a terminal of 80 columns."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.table import Table

from distillery.cli.commands.hints import build_hint_table
from distillery.cli.commands.report import build_arms_table
from tests.unit.reports import arm, report

HINT = {
    "text": "look for a keychain in coffeetable, desk, sofa, sidetable, drawer, shelf",
    "category": None,
    "support": 21,
    "uses": 15,
    "success_with": 1.0,
    "success_without_hints": 0.667,
    "success_without": 0.785,
    "round": 1,
    "extractor": "rules",
    "model": None,
}


def lines(table: Table) -> list[str]:
    console = Console(width=80, file=StringIO(), color_system=None)
    console.print(table)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_hint_table_shows_every_number_when_narrow():
    head, first, *rest = lines(build_hint_table([HINT], width=80))
    assert head.endswith("no hints %  others %")
    assert first.split()[-6:] == ["all", "21", "15", "100.0", "66.7", "78.5"]
    assert " ".join([first.split("  ")[0], *rest]) == HINT["text"]


def test_arms_table_has_a_line_per_arm_when_narrow():
    shown = {**report(), "arms": {"baseline": arm(0.4), "distilled": arm(0.9), "placebo": arm(0.5)}}
    head, *rest = lines(build_arms_table(shown))
    assert head.split()[0] == "arm"
    assert [line.split()[0] for line in rest] == ["baseline", "distilled", "placebo"]
    assert rest[1].split() == ["distilled", "140", "90.0", "85.0", "-", "95.0", "+50.0", "<", "1e-15", "8.5", "1,234"]
