"""For all tests."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests.counting import sitecustomize as counting

# Small models, often next to other processes: threads that wait for each other in a spin cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# vLLM would bind every server to the same core.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

# A machine with two idle cores runs `make test` in ten minutes; each of these takes most of one from it.
_MOST = {counting.MODEL_SERVERS: 5, counting.DATABASES: 4}
_counts = pytest.StashKey[Path]()

_LONGEST = ("test_loop.py", "test_loop_ends.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: processes that share the tests then end together."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


def pytest_configure(config: pytest.Config) -> None:
    """Count the servers that are started, in this process, in xdist's workers and in commands that tests run."""
    if counting.FOLDER in os.environ:  # a worker of xdist, or a pytest that a test started: the first one counts
        return
    config.stash[_counts] = folder = Path(tempfile.mkdtemp(prefix="distillery-test-counts-"))
    os.environ[counting.FOLDER] = str(folder)
    here = str(Path(counting.__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    sys.addaudithook(counting.count)


def _started(config: pytest.Config) -> dict[str, list[str]]:
    """The tests that started a server of each kind."""
    files = {kind: config.stash[_counts] / kind for kind in _MOST}
    return {kind: file.read_text().splitlines() if file.exists() else [] for kind, file in files.items()}


def _limited(config: pytest.Config) -> bool:
    return _counts in config.stash and "not slow" in str(config.getoption("markexpr"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where `make test` started more servers than it has time for."""
    if _limited(session.config):
        started = _started(session.config)
        if any(len(tests) > _MOST[kind] for kind, tests in started.items()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many servers were started, and by whom if they are too many."""
    if not _limited(config):
        return
    for kind, tests in _started(config).items():
        over = len(tests) > _MOST[kind]
        terminalreporter.line(f"{kind}: {len(tests)} of at most {_MOST[kind]}", red=over)
        for test in tests if over else ():
            terminalreporter.line(f"TOO MANY {kind}: {test}; share one")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Forget the counts."""
    if _counts in config.stash:
        shutil.rmtree(config.stash[_counts], ignore_errors=True)
        del os.environ[counting.FOLDER]
