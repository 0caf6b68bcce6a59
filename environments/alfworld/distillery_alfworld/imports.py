"""The packages that ALFWorld consists of: which versions are proven, and how to import them without side effects."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from distillery.environments.base import EnvironmentConfigurationError

ENGINE = {"textworld": "1.7.0", "fast-downward-textworld": "20.6.4"}
"""The packages of the engine. It uses their internals, so it was proven with these versions and takes no others."""

GENERATOR = ENGINE | {"alfworld": "0.4.2"}
"""The packages that make our own games; another version could make other games of the same seed."""


def require_versions(packages: dict[str, str]) -> None:
    """Raise :class:`EnvironmentConfigurationError` unless each package is installed in the given version."""
    for package, proven in packages.items():
        try:
            actual = f"{version(package)} is installed"
        except PackageNotFoundError:
            actual = "it is not installed"
        if actual != f"{proven} is installed":
            raise EnvironmentConfigurationError(
                f"ALFWorld needs {package} {proven}, and {actual}: pip install distillery-alfworld"
            )


@contextmanager
def allow_alfworld_import() -> Generator[None, None, None]:
    """Allow imports of ``alfworld`` while entered.

    On import it makes ``$ALFWORLD_DATA``, or a folder in the user's home, and sets the variable, which the choice
    between ALFWorld's games and our own rests on. Here it finds a folder that exists, and the variable is put back.
    """
    before = os.environ.get("ALFWORLD_DATA")
    os.environ["ALFWORLD_DATA"] = sys.prefix
    try:
        yield
    finally:
        if before is None:
            del os.environ["ALFWORLD_DATA"]
        else:
            os.environ["ALFWORLD_DATA"] = before
