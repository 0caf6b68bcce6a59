"""The shards of the end-to-end tests: none is forgotten, and none that passed on a tree is run on it again."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e import caps, shards

PASSES = "def test_it():\n    assert True\n"
FAILS = "def test_it():\n    raise AssertionError\n"


def test_every_end_to_end_test_is_in_one_shard():
    files = [file for shard in shards.SHARDS.values() for file in shard if file.startswith("tests/e2e/")]
    there = [str(path.relative_to(shards.ROOT)) for path in (shards.ROOT / "tests" / "e2e").rglob("test_*.py")]
    assert Counter(files) == Counter(there)


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shard of one file that passes."""
    file = tmp_path / "test_it.py"
    file.write_text(PASSES)
    monkeypatch.setattr(shards, "SHARDS", {"it": (str(file),)})
    return file


def test_shard_is_skipped_when_it_passed(shard: Path, tmp_path: Path):
    first = shards.run("it", tmp_path)
    assert (first.passed, first.before) == (True, False)
    assert first.line.startswith("1 passed")
    shard.write_text(FAILS)
    assert shards.run("it", tmp_path).before
    again = shards.run("it", tmp_path, again=True)
    assert (again.passed, again.before) == (False, False)


def test_shard_is_run_again_when_it_failed(shard: Path, tmp_path: Path):
    shard.write_text(FAILS)
    assert not shards.run("it", tmp_path).passed
    shard.write_text(PASSES)
    assert shards.run("it", tmp_path).passed


def test_tree_id_changes_with_every_file_that_git_does_not_ignore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(shards, "ROOT", tmp_path)
    git("init")
    (tmp_path / ".gitignore").write_text("ignored\n")
    git("add", "--all")
    git("commit", "--message=first")
    trees = [shards.tree()]
    (tmp_path / "ignored").write_text("a")
    assert shards.tree() == trees[0]
    for text in ("new", "changed"):
        (tmp_path / "file").write_text(text)
        trees.append(shards.tree())
    git("add", "--all")
    git("commit", "--message=second")
    assert shards.tree() == trees[-1]
    assert len(set(trees)) == 3


def test_key_differs_when_the_cluster_does():
    assert shards.key("tree", {}) != shards.key("tree", {"E2E_CONTEXT": "kind/a"})


def test_cap_fails_and_names_all_when_exceeded():
    cap = caps.Cap("runs", 1, limited=True)
    cap.count("first")
    with pytest.raises(AssertionError, match="at most 1 runs: first, second"):
        cap.count("second")


def test_cap_without_a_limit_only_counts():
    cap = caps.Cap("runs", 1)
    cap.count("first")
    cap.count("second")
    assert cap.names == ["first", "second"]
