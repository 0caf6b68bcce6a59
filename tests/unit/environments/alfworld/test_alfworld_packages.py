"""The engine is taken only in the versions with which it was proven."""

from __future__ import annotations

import os

import pytest

from distillery.environments.alfworld.packages import alfworld_importable, require
from distillery.environments.base import EnvironmentConfigurationError


def test_another_version_is_refused_with_both_and_the_mend() -> None:
    with pytest.raises(EnvironmentConfigurationError, match=r"needs pytest 0\.1, and .* is installed: pip install"):
        require({"pytest": "0.1"})


def test_a_missing_package_is_named() -> None:
    with pytest.raises(EnvironmentConfigurationError, match=r"needs no-such-engine 1\.0, and it is not installed"):
        require({"no-such-engine": "1.0"})


@pytest.mark.parametrize("value", [None, "/games"])
def test_alfworlds_variable_is_put_back(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    else:
        monkeypatch.setenv("ALFWORLD_DATA", value)
    with alfworld_importable():
        os.environ["ALFWORLD_DATA"] = "/elsewhere"
    assert os.environ.get("ALFWORLD_DATA") == value
