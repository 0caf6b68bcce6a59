"""A machine without a cluster and without runs."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake kubectl: it writes down what it is asked, and prints what lies in its answers.

    There are three: ``pods`` for those of a stage, ``logs`` for those of a container, and ``answer`` for all else.
    """
    program = tmp_path / "kubectl"
    program.write_text(f"""#!/bin/sh
echo "$@" >> {tmp_path}/asked
case "$1 $2" in "get pods") answer=pods ;; logs*) answer=logs ;; *) answer=answer ;; esac
cat {tmp_path}/$answer 2>/dev/null
test ! -e {tmp_path}/refusal || {{ cat {tmp_path}/refusal >&2; exit 1; }}
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


@pytest.fixture
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run of this machine, and not even a database."""
    monkeypatch.setenv("DISTILLERY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DISTILLERY_DATABASE_URL", raising=False)
