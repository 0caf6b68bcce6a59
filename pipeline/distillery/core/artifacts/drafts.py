"""Drafts: folders that become artifacts. Each has one owner; those whose owner died are swept.

A draft ``.NAME.XXXX.draft`` has a lock ``.NAME.XXXX.lock`` next to it. Its owner holds the lock (the kernel frees it
when the process dies) and touches the file every few seconds. Another process takes a draft for orphaned only if the
lock is free and was not touched for a while: not every shared volume knows of locks that other nodes hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import threading
from pathlib import Path

HEARTBEAT_SECONDS = 15.0
ORPHANED_SECONDS = 300.0
"""How long a lock is not touched before its draft counts as orphaned, where workers elsewhere may write drafts too."""

_log = logging.getLogger(__name__)

_DRAFT, _LOCK = ".draft", ".lock"


class Drafts:
    """The drafts of a folder that other processes, and other nodes, may use at the same time.

    Args:
        root: the folder; made when first needed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._held: dict[Path, int] = {}
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None

    def make(self, name: str) -> Path:
        """Make an empty folder that is this process's alone."""
        self._root.mkdir(parents=True, exist_ok=True)
        handle, lock = tempfile.mkstemp(prefix=f".{name}.", suffix=_LOCK, dir=self._root)
        with contextlib.suppress(OSError):  # a file system without locks: the heartbeat has to do
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft = Path(lock).with_suffix(_DRAFT)
        draft.mkdir()
        self._held[draft] = handle
        if self._heart is None:
            self._heart = threading.Thread(target=self._beat, name="drafts", daemon=True)
            self._heart.start()
        return draft

    def discard(self, draft: Path) -> None:
        """Remove a draft, or what is left of it once it was published."""
        shutil.rmtree(draft, ignore_errors=True)
        draft.with_suffix(_LOCK).unlink(missing_ok=True)
        handle = self._held.pop(draft, None)
        if handle is not None:
            os.close(handle)

    def close(self) -> None:
        """Discard every draft of this process."""
        self._stop.set()
        for draft in list(self._held):
            self.discard(draft)

    def sweep(self, idle_seconds: float) -> list[Path]:
        """Remove the drafts whose owners died, and return them.

        Args:
            idle_seconds: how long a lock was not touched; 0 where no other node writes to the folder.
        """
        if not self._root.is_dir():
            return []
        return [
            lock.with_suffix(_DRAFT)
            for lock in sorted(self._root.glob(f".*{_LOCK}"))
            if lock.with_suffix(_DRAFT) not in self._held and self._remove_orphaned(lock, idle_seconds)
        ]

    def _remove_orphaned(self, lock: Path, idle_seconds: float) -> bool:
        """Remove a lock and its draft if their owner died; return whether it did."""
        try:
            if idle_seconds and self._now() - lock.stat().st_mtime < idle_seconds:
                return False
            with lock.open("r+b") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                except OSError:  # a file system without locks
                    pass
                draft = lock.with_suffix(_DRAFT)
                if draft.exists():
                    shutil.rmtree(draft)
                lock.unlink()
                return True
        except OSError as error:  # its owner, or another sweeper, was quicker; else the next sweep finds it again
            _log.debug("the draft of %s stays: %s", lock, error)
            return False

    def _now(self) -> float:
        """Return the time by the clock of the file system, which is that of the locks' times."""
        with tempfile.TemporaryFile(dir=self._root) as file:
            return os.fstat(file.fileno()).st_mtime

    def _beat(self) -> None:
        """Touch the locks of this process's drafts, as long as there are any."""
        while not self._stop.wait(HEARTBEAT_SECONDS):
            for draft in list(self._held):
                with contextlib.suppress(OSError):
                    os.utime(draft.with_suffix(_LOCK))
