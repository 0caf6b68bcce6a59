"""The page of failures names tests that there are."""

from __future__ import annotations

import re

from tests.paths import ROOT

_NAMED = re.compile(r"\(\.\./(tests/[^)]+)\)`::(\w+)`")


def test_every_failure_on_the_page_names_a_test_that_exists():
    page = (ROOT / "docs" / "reliability.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "class of failure" not in line]
    assert len(rows) > 30
    assert [row for row in rows if not _NAMED.search(row)] == []
    missing = [
        f"{path}::{name}"
        for path, name in _NAMED.findall(page)
        if not re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    ]
    assert missing == []
