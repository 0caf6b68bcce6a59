"""A call of the command line in this process."""

from __future__ import annotations

import pytest

from distillery.cli.main import main


def call(*arguments: str) -> int:
    """Return the exit code of ``distillery`` with the arguments."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)
