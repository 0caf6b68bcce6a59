"""A draft has one owner, and goes with it; nobody takes that of a living one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distillery.core.artifacts import FolderStore, drafts
from distillery.core.artifacts.drafts import Drafts

OWNER = """
import sys, time
from pathlib import Path
from distillery.core.artifacts.drafts import Drafts
draft = Drafts(Path(sys.argv[1])).make("r1-train")
(draft / "weights").write_bytes(b"w" * 1000)
print(draft, flush=True)
time.sleep(600)
"""


@contextmanager
def owner(folder: Path) -> Generator[tuple[subprocess.Popen[str], Path]]:
    """Another process that writes a draft, and the draft."""
    with subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def age(folder: Path, seconds: float) -> None:
    """Let locks look as if nobody had touched them for so long."""
    for lock in folder.glob(".*.lock"):
        then = lock.stat().st_mtime - seconds
        os.utime(lock, (then, then))


def test_drafts_stay_apart_when_two_workers_have_one_process_id(tmp_path: Path):
    """As two pods have one: each is the first process of its container."""
    first, second = FolderStore(tmp_path), FolderStore(tmp_path)
    mine, theirs = first.draft("r1-rollout"), second.draft("r1-rollout")
    (mine / "who").write_text("first")
    (theirs / "who").write_text("second")
    assert first.publish("r1-rollout", mine, {})["files"] == second.publish("r1-rollout", theirs, {})["files"]
    assert (tmp_path / "r1-rollout" / "who").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["r1-rollout"]


@pytest.mark.parametrize("idle", [0, 300])
def test_sweep_keeps_a_draft_when_its_owner_lives(tmp_path: Path, idle: float):
    with owner(tmp_path) as (_, draft):
        age(tmp_path, 1000)  # a lock that is held outweighs a heart that does not seem to beat
        assert Drafts(tmp_path).sweep(idle) == []
        assert (draft / "weights").exists()


def test_sweep_removes_a_draft_when_its_owner_was_killed(tmp_path: Path):
    with owner(tmp_path) as (process, draft):
        process.kill()
        process.wait()
        assert Drafts(tmp_path).sweep(300) == [], (
            "on a shared volume its owner may live on a node whose locks are its own"
        )
        age(tmp_path, 301)
        assert Drafts(tmp_path).sweep(300) == [draft]
        assert list(tmp_path.iterdir()) == []


def test_sweep_removes_a_draft_when_nobody_else_writes_there(tmp_path: Path):
    with owner(tmp_path) as (process, draft):
        process.kill()
        process.wait()
        assert Drafts(tmp_path).sweep(0) == [draft]
        assert list(tmp_path.iterdir()) == []


def test_draft_is_touched_when_it_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drafts, "HEARTBEAT_SECONDS", 0.01)
    writing = Drafts(tmp_path)
    lock = writing.make("r1-train").with_suffix(".lock")
    age(tmp_path, 1000)
    aged = lock.stat().st_mtime
    for _ in range(1000):
        if lock.stat().st_mtime > aged + 900:
            break
        time.sleep(0.01)
    assert lock.stat().st_mtime > aged + 900
    writing.close()
    assert list(tmp_path.iterdir()) == []
