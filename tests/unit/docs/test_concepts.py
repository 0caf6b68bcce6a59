"""The page of the architecture: every file that it names for a concept exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.paths import ROOT

_PATH = re.compile(r"`([\w./-]+(?:\.py|/))`")


def named_files() -> Iterator[tuple[str, list[Path]]]:
    """Yield each file or folder of the table with the places where it may be.

    These are the repository, the package of the pipeline, and the folder of the path before it in the cell.
    """
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("## From concept to file")[2].partition("\n## ")[0]
    for line in table.splitlines():
        folders = [ROOT, ROOT / "pipeline" / "distillery"]
        for name in _PATH.findall(line):
            places = [folder / name for folder in folders]
            yield name, places
            existing = next((place for place in places if place.exists()), ROOT)
            folders = [*folders[:2], existing if existing.is_dir() else existing.parent]


def test_file_exists_when_the_table_of_concepts_names_it():
    assert [name for name, places in named_files() if not any(place.exists() for place in places)] == []


def test_table_of_concepts_names_files():
    assert len(list(named_files())) > 50
