"""The layout check: `make check` fails where files or tests break STYLE.md.

    python hack/check_layout.py          check the repository
    python hack/check_layout.py FOLDER   check another copy of it

A folder has at most 12 modules, and a module at most 500 lines. Two modules share a name only where they play the
same role. The name of a test has at most 70 characters. Only the standard library is needed.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

MAX_MODULES = 12
MAX_LINES = 500
MAX_TEST_NAME = 70

ROOTS = ("pipeline", "operator", "gateway", "environments", "hack", "benchmarks", "scripts", "models", "tests")
SKIPPED = {"build", "node_modules", "__pycache__"}

ROLES: Mapping[str, str] = {
    "__init__": "Python's name for a package",
    "__main__": "Python's name for a program",
    "conftest": "pytest's name for fixtures",
    "base": "the interface that the modules of its folder implement",
    "client": "the client of one service",
    "context": "the facts that the steps of one thing share",
    "errors": "the errors of one program",
    "main": "the entry point of one program",
    "metrics": "the metrics of one program",
    "plan": "a pure function from what is observed to what comes next",
    "problems": "the problems of a document or of a run, each with its fix",
    "recorder": "the recorder, and the module of its name that serving pods start",
    "requests": "the requests by annotation: their form, and the answer to them",
    "rules": "a tuple of named pure rules",
    "settings": "the settings of one program, from its environment",
}
"""Names that several modules may have, each with the role that they play."""

NAMED_AFTER: Mapping[str, str] = {
    "benchmarks": "the part that it measures",
    "hack/reference": "the page that it writes",
    "operator/distillery_operator/manifests": "the object that it builds",
    "operator/distillery_operator/pods": "the report of a pod that it reads",
    "pipeline/distillery/cli/commands": "the command",
    "pipeline/distillery/core/api/spec": "the section of the resource",
    "pipeline/distillery/database": "the rows that it reads and writes",
    "pipeline/distillery/hints/extractors": "the extractor",
    "pipeline/distillery/stages": "the stage",
}
"""Folders whose modules have the name of something else, which may be the name of another module, too."""


def main() -> int:
    """Print every problem; the exit code is 1 if there is one."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    problems = check(root)
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


def check(root: Path) -> list[str]:
    """Return the problems of a repository."""
    modules = sorted(find_modules(root))
    problems = [*check_folders(modules), *check_names(modules)]
    for module in modules:
        source = (root / module).read_text()
        problems += check_lines(module, source)
        problems += check_test_names(module, source) if module.parts[0] == "tests" else []
    return problems


def find_modules(root: Path) -> Iterator[PurePosixPath]:
    """Yield the path of every Python module of the repository."""
    for top in ROOTS:
        for path in (root / top).rglob("*.py"):
            module = PurePosixPath(path.relative_to(root).as_posix())
            if not SKIPPED.intersection(module.parts):
                yield module


def check_folders(modules: Iterable[PurePosixPath]) -> list[str]:
    """Return the folders with more modules than a reader can hold. Environments are plug-ins and exempt."""
    folders = defaultdict[PurePosixPath, int](int)
    for module in modules:
        folders[module.parent] += module.stem != "__init__" and "environments" not in module.parts
    return [
        f"{folder}: {count} modules: group them in folders of at most {MAX_MODULES}"
        for folder, count in folders.items()
        if count > MAX_MODULES
    ]


def check_names(modules: Iterable[PurePosixPath]) -> list[str]:
    """Return the modules that share a name without a common role."""
    groups = defaultdict[tuple[str, str], list[PurePosixPath]](list)
    for module in modules:
        if module.stem.removeprefix("test_") not in ROLES and str(module.parent) not in NAMED_AFTER:
            groups[_kind(module), module.stem].append(module)
    return [
        f"{' and '.join(map(str, group))}: one name for two things: rename one of them"
        for (kind, _), group in groups.items()
        if len(group) > 1 and kind != "environments"
    ]


def check_lines(module: PurePosixPath, source: str) -> list[str]:
    """Return a problem if a module is too long."""
    count = len(source.splitlines())
    return [f"{module}: {count} lines: split it before it reaches {MAX_LINES}"] if count > MAX_LINES else []


def check_test_names(module: PurePosixPath, source: str) -> list[str]:
    """Return the tests of a module whose names are too long."""
    return [
        f"{module}:{node.lineno}: {node.name}: {len(node.name)} characters: write at most {MAX_TEST_NAME}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and len(node.name) > MAX_TEST_NAME
    ]


def _kind(module: PurePosixPath) -> str:
    """Return what a module is compared with: tests of one kind with each other, environments with nothing."""
    if "environments" in module.parts:
        return "environments"
    return "/".join(module.parts[:2]) if module.parts[0] == "tests" else "sources"


if __name__ == "__main__":
    sys.exit(main())
