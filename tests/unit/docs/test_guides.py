"""The commands and the run files of the guides, held against the parser and the types."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillery.cli.parser import build_parser
from distillery.core.api import parse
from tests.paths import ROOT
from tests.unit.documents import document

PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name not in ("adr", "reference"))

FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> Iterator[str]:
    return (
        found["text"] for found in FENCE.finditer(page.read_text(encoding="utf-8")) if found["language"] == language
    )


def commands() -> list[tuple[str, str]]:
    lines = ((page.name, line) for page in PAGES for text in blocks(page, "sh") for line in text.splitlines())
    return [(name, line) for name, line in lines if line.startswith("distillery ")]


def runs() -> list[tuple[str, dict[str, Any]]]:
    """Whole documents, and parts of a specification."""
    found = [(page.name, yaml.safe_load(text)) for page in PAGES for text in blocks(page, "yaml")]
    return [(name, one) for name, one in found if isinstance(one, dict) and "spec" in one and one.keys() <= RUN]


RUN = {"apiVersion", "kind", "metadata", "spec"}


def merged(base: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    both = {key for key in base.keys() & part.keys() if isinstance(base[key], dict) and isinstance(part[key], dict)}
    return {**base, **part, **{key: merged(base[key], part[key]) for key in both}}


@pytest.mark.parametrize(("page", "line"), commands())
def test_command_of_a_guide_exists_in_the_command_line(page: str, line: str):
    build_parser().parse_args(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize(("page", "part"), runs())
def test_run_of_a_guide_is_valid(page: str, part: dict[str, Any]):
    if part.get("kind", "DistillationRun") == "DistillationRun":
        parse(part if "kind" in part else merged(document(), part))


def test_guides_have_commands_and_runs_to_test():
    assert len(commands()) >= 20
    assert len(runs()) >= 8
