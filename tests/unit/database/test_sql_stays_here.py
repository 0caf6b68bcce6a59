"""SQL is in the database package alone, so that a column has one place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.paths import ROOT

PACKAGES = (
    ROOT / "pipeline/distillery",
    ROOT / "operator/distillery_operator",
    ROOT / "gateway/distillery_gateway",
    *sorted(ROOT.glob("environments/*/distillery_*")),
)
DATABASE = ROOT / "pipeline/distillery/database"
STATEMENT = re.compile(r"\b(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|ALTER TABLE|CREATE TABLE|SET LOCAL)\b")


def statements(source: str) -> Iterator[str]:
    """Yield the string literals of a module that hold SQL."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.search(node.value):
            yield f"line {node.lineno}: {node.value.strip()[:60]}"


@pytest.mark.parametrize(
    "source",
    [
        'database.fetch("SELECT 1 FROM run WHERE id = %s", 1)',
        'f"""SELECT count(*) FROM {table}"""',
        'execute("""\n    UPDATE episode SET phase = 1""")',
        'work("DELETE FROM stage")',
    ],
)
def test_scan_finds_a_statement_when_a_literal_holds_sql(source: str):
    assert list(statements(source))


def test_scan_finds_nothing_when_a_message_speaks_of_updates():
    assert not list(statements('"update the SELECTION, or INSERT a coin"'))


def test_no_package_holds_sql_but_the_database():
    paths = [path for package in PACKAGES for path in package.rglob("*.py") if DATABASE not in path.parents]
    assert len(paths) > 200
    problems = [f"{path.relative_to(ROOT)}: {text}" for path in paths for text in statements(path.read_text())]
    assert not problems, "move these to pipeline/distillery/database"
