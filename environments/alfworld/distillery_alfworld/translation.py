"""From PDDL to SAS, the planner's own form: 0.2 to 1.4 CPU seconds a game, so done once and kept on disk.

The translator is Fast Downward's, called as TextWorld calls it. What TextWorld calls it for besides, the parsed task,
comes from :mod:`distillery_alfworld.pddl_reader`; its second translation, for the planner, isn't needed.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import fast_downward

_FORMAT = b"SAS 20.6.4\n"  # names the translator's version: another one's translations are other entries
_DIGEST_BYTES = 32
_ENTRIES_PER_FOLDER = 64  # times 256 folders, at about 40 kB: at most 0.7 GB; ALFWorld has 4,000 games


def translate(domain: str, problem: str) -> str:
    """Translate a game into SAS, or read the translation from the cache."""
    key = hashlib.sha256(b"\0".join((_FORMAT, domain.encode(), problem.encode()))).hexdigest()
    entry = find_cache_folder() / key[:2] / key[2:]
    sas = _read(entry)
    if sas is None:
        sas = _translate(domain, problem)
        _write(entry, sas)
    return sas


def find_cache_folder() -> Path:
    """Return the folder of translations in ``$DISTILLERY_CACHE``, else in ``distillery`` in the user's cache folder."""
    if chosen := os.environ.get("DISTILLERY_CACHE"):
        return Path(chosen) / "alfworld"
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(user if os.path.isabs(user) else tempfile.gettempdir()) / "distillery" / "alfworld"


def _translate(domain: str, problem: str) -> str:
    argv, collecting = sys.argv, gc.isenabled()
    gc.disable()  # a quarter of the time goes into walking objects that all live until the end
    try:
        # The translator warns of every doubled fact, and there are hundreds in ALFWorld's games.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            _, sas = fast_downward.pddl2sas(domain, problem)
    finally:
        sys.argv = argv  # which pddl2sas overwrites
        if collecting:
            gc.enable()
    return sas


def _read(entry: Path) -> str | None:
    """Return the content of an entry; None where it is missing, damaged or from another version."""
    try:
        content = entry.read_bytes()
        body = content.removeprefix(_FORMAT)
        sas = zlib.decompress(body[_DIGEST_BYTES:])
        return sas.decode() if hashlib.sha256(sas).digest() == body[:_DIGEST_BYTES] else None
    except (OSError, zlib.error, UnicodeDecodeError):
        return None


def _write(entry: Path, sas: str) -> None:
    """Keep a translation. A cache that can't be written to costs time, never a game."""
    raw = sas.encode()
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=entry.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(_FORMAT + hashlib.sha256(raw).digest() + zlib.compress(raw))
            os.replace(partial, entry)
        except OSError:
            os.unlink(partial)
            raise
        for old in _find_oldest(entry.parent):
            old.unlink()


def _find_oldest(folder: Path) -> Iterator[Path]:
    """Yield the entries beyond the allowed number, oldest first."""
    entries = sorted(folder.iterdir(), key=lambda entry: entry.stat().st_mtime)
    yield from entries[: max(0, len(entries) - _ENTRIES_PER_FOLDER)]
