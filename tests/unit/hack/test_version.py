"""hack/set_version.py on this repository and on copies of it, and what `make release` would run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distillery import __version__
from hack import set_version as tool
from tests.paths import ROOT

OTHER = "98.76.54-rc.3"
CHANGELOG = f"# Changelog\n\n## [Unreleased]\n\n## [{OTHER}]\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that can mention the version, and a changelog with notes on another one."""
    for pattern in {pattern for form in tool.FORMS for pattern in form.files}:
        for file in ROOT.glob(pattern):
            target = tmp_path / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    (tmp_path / tool.CHANGELOG).write_text(CHANGELOG)
    return tmp_path


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "hack" / "set_version.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_all_mentions_are_of_the_packages_version():
    mentions = list(tool.find_mentions(ROOT))
    assert len(mentions) >= 5
    assert {mention.version for mention in mentions} == {__version__}


def test_every_mention_in_prose_has_a_form_that_set_version_knows():
    known = {(mention.path, mention.start) for mention in tool.find_mentions(ROOT)}
    literal = re.compile(rf"(?<![\w.=])v?({re.escape(__version__)})(?!\.?\w)")
    unknown = [
        f"{path}:{text.count(chr(10), 0, found.start()) + 1}"
        for path, text in ((path, (ROOT / path).read_text()) for path in prose())
        for found in literal.finditer(text)
        if (path, found.start(1)) not in known
    ]
    assert unknown == [], "add the form to FORMS in hack/set_version.py, or write the sentence without the version"


def prose() -> list[Path]:
    """The files whose text may mention the version. Decisions of the past keep the version that they were made in."""
    found = {file.relative_to(ROOT) for pattern in tool.PROSE for file in ROOT.glob(pattern)}
    return sorted(file for file in found if "adr" not in file.parts)


def test_set_version_changes_every_mention_and_no_other_line(copy: Path):
    before, mentions = read_all(copy), list(tool.find_mentions(copy))
    done = run(OTHER, "--root", copy)
    assert done.returncode == 0, done.stderr
    assert "changed charts/distillery/Chart.yaml" in done.stdout
    assert {mention.version for mention in tool.find_mentions(copy)} == {OTHER}
    changed = {
        (path, number)
        for path, text in read_all(copy).items()
        for number, (old, new) in enumerate(zip(before[path].split("\n"), text.split("\n"), strict=True), 1)
        if old != new
    }
    assert changed == {(mention.path, mention.line) for mention in mentions}


def read_all(folder: Path) -> dict[Path, str]:
    """The texts of all files of a folder."""
    return {file.relative_to(folder): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_set_version_restores_the_files_when_the_version_returns(copy: Path):
    before = read_all(copy)
    tool.set_version(copy, OTHER)
    assert tool.find_others(copy, OTHER) == []
    tool.set_version(copy, __version__)
    assert read_all(copy) == before


def test_check_names_file_and_line_when_one_mention_differs(copy: Path):
    chart = copy / tool.CHART
    chart.write_text(chart.read_text().replace(f"appVersion: {__version__}", "appVersion: 9.9.9"))
    for expected in ([], [__version__]):
        done = run("--check", *expected, "--root", copy)
        assert done.returncode == 1
        assert re.search(r"charts/distillery/Chart.yaml:\d+: 9.9.9", done.stderr)


@pytest.mark.parametrize("version", ["", "v1.2.3", "1.2", "1.2.3rc1", "1.2.3-dev", "1.2.3\n"])
def test_set_version_rejects_versions_that_python_or_helm_reject(copy: Path, version: str):
    done = run(version, "--root", copy)
    assert done.returncode == 2
    assert "write it as 0.2.0 or 0.2.0-rc.1" in done.stderr
    assert tool.find_others(copy, __version__) == []


def test_next_version_needs_no_release_notes(copy: Path):
    assert run("--next", OTHER, "--root", copy).returncode == 0
    assert tool.find_others(copy, OTHER) == []


def test_set_version_changes_nothing_without_release_notes(copy: Path):
    (copy / tool.CHANGELOG).write_text("# Changelog\n\n## [Unreleased]\n")
    done = run(OTHER, "--root", copy)
    assert done.returncode == 1
    assert f"CHANGELOG.md has no section [{OTHER}]" in done.stderr
    assert tool.find_others(copy, __version__) == []


def test_set_version_fails_when_a_package_lost_its_version(copy: Path):
    (copy / tool.PACKAGES[1]).write_text("")
    done = run("--check", "--root", copy)
    assert done.returncode == 1
    assert tool.PACKAGES[1] in done.stderr


def test_make_release_edits_and_checks_and_pushes_nothing():
    done = subprocess.run(
        ["make", "--dry-run", "release", f"VERSION={OTHER}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line.strip() for line in done.stdout.replace("\\\n", " ").splitlines()]
    assert f'.venv/bin/python hack/set_version.py "{OTHER}"' in lines
    assert any(line.startswith(".venv/bin/basedpyright") for line in lines)
    (printed,) = (line for line in lines if "git push" in line)
    assert printed.startswith("printf ")
    assert f"git tag --annotate v{OTHER}" in printed
    assert [line for line in lines if line.startswith("git ")] == []
