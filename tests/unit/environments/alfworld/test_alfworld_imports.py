"""The engine is taken only in the versions with which it was proven."""

from __future__ import annotations

import os

import pytest

from distillery.environments.base import EnvironmentConfigurationError
from distillery_alfworld.imports import allow_alfworld_import, require_versions


def test_version_error_names_both_versions_and_the_fix() -> None:
    with pytest.raises(EnvironmentConfigurationError, match=r"needs pytest 0\.1, and .* is installed: pip install"):
        require_versions({"pytest": "0.1"})


def test_require_names_the_package_when_it_is_missing() -> None:
    with pytest.raises(EnvironmentConfigurationError, match=r"needs no-such-engine 1\.0, and it is not installed"):
        require_versions({"no-such-engine": "1.0"})


@pytest.mark.parametrize("value", [None, "/games"])
def test_import_restores_the_data_variable(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    else:
        monkeypatch.setenv("ALFWORLD_DATA", value)
    with allow_alfworld_import():
        os.environ["ALFWORLD_DATA"] = "/elsewhere"
    assert os.environ.get("ALFWORLD_DATA") == value
