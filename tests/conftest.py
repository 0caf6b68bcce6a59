"""For all tests."""

from __future__ import annotations

import os

import pytest

# Small models, often beside other processes: threads that wait for each other in a spin cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# vLLM would bind every server to the same core.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

_LONGEST = ("test_loop.py", "test_tutorial.py", "test_loop_ends.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: processes that share the tests then end together."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)
