"""hack/chart_readme.py: the chart's README has the table that the values and their schema say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hack.chart_readme import CHART, generate, read_values
from tests.paths import ROOT


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A copy of what the table is made of."""
    for name in ("README.md", "values.yaml", "values.schema.json"):
        shutil.copy(CHART / name, tmp_path)
    return tmp_path


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "hack" / "chart_readme.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_chart_readme_matches_the_values():
    assert (CHART / "README.md").read_text() == generate(CHART), "run `make chart-readme`"


def test_table_has_every_value_with_its_default():
    rows = {value.path: value.default for value in read_values(CHART)}
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path, default in rows.items():
        found = values
        for key in path.split("."):
            found = found[key]
        if default:
            assert json.loads(default) == found, path
        else:
            assert {f"{path}.{key}" for key in found} <= rows.keys()
    assert values.keys() <= rows.keys()


def test_type_names_all_alternatives_when_the_schema_has_some(chart: Path):
    schema = chart / "values.schema.json"
    text = schema.read_text()
    old = '"logLevel": {"enum": ["DEBUG", "INFO", "WARNING", "ERROR"]}'
    assert old in text
    schema.write_text(text.replace(old, '"logLevel": {"oneOf": [{"const": ""}, {"$ref": "#/$defs/dnsLabel"}]}'))
    (kind,) = (value.kind for value in read_values(chart) if value.path == "logLevel")
    assert kind == '`""` or string'


def test_every_description_begins_with_the_values_name():
    wrong = [v.path for v in read_values(CHART) if v.description.split()[0] != v.path.rpartition(".")[2]]
    assert wrong == []


def test_check_fails_when_a_default_changed(chart: Path):
    assert run("--check", "--chart", chart).returncode == 0
    values = chart / "values.yaml"
    values.write_text(values.read_text().replace("interval: 30s", "interval: 15s"))
    before = (chart / "README.md").read_text()
    done = run("--check", "--chart", chart)
    assert done.returncode == 1
    assert "make chart-readme" in done.stderr
    assert (chart / "README.md").read_text() == before
    assert run("--chart", chart).returncode == 0
    assert '| `"15s"` |' in (chart / "README.md").read_text()
    assert run("--check", "--chart", chart).returncode == 0


@pytest.mark.parametrize(
    ("file", "old", "new", "error"),
    [
        ("values.yaml", "\nlogLevel:", "\n\nlogLevel:", "no comment above logLevel"),
        ("values.yaml", "logLevel: INFO", "logLevels: INFO", "does not describe logLevels"),
        ("README.md", "<!-- end values -->\n", "", "lacks the lines"),
    ],
)
def test_generation_fails_when_a_source_lacks_something(chart: Path, file: str, old: str, new: str, error: str):
    text = (chart / file).read_text()
    assert old in text
    (chart / file).write_text(text.replace(old, new))
    done = run("--chart", chart)
    assert done.returncode == 1
    assert error in done.stderr
