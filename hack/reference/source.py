"""Facts from Python sources without importing them: constants, calls and docstrings. Pure but for reading files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

UNKNOWN = "..."
"""The sign for a part of a text that is only known at run time."""

_TWICE = re.compile(r"(?:\.\.\.){2,}")


@dataclass(frozen=True, slots=True)
class Module:
    """A parsed module.

    Attributes:
        path: The file's path in the repository.
        tree: The syntax tree.
        constants: The module's strings by the name of the constant.
        notes: The docstring below a constant, by the constant's name.
    """

    path: str
    tree: ast.Module
    constants: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def parse(cls, path: str, text: str) -> Module:
        """Return the module of a file's text."""
        tree = ast.parse(text)
        constants: dict[str, str] = {}
        notes: dict[str, str] = {}
        following: list[ast.stmt | None] = [*tree.body[1:], None]
        for statement, after in zip(tree.body, following, strict=True):
            names = dict(_strings(statement))
            constants |= names
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and len(names) == 1:
                notes |= dict.fromkeys(names, str(after.value.value))
        return cls(path, tree, constants, notes)


def modules(root: Path, *folders: str) -> list[Module]:
    """Return the modules below some folders of the repository, in the order of their paths."""
    paths = sorted(path for folder in folders for path in (root / folder).rglob("*.py"))
    return [Module.parse(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def text_of(node: ast.expr | None, constants: Mapping[str, str]) -> str | None:
    """Return the string that an expression is, with :data:`UNKNOWN` for its unknown parts; None if it is none."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return constants.get(name)
        case ast.JoinedStr(values=values):
            parts = (str(part.value) if isinstance(part, ast.Constant) else UNKNOWN for part in values)
            return _TWICE.sub(UNKNOWN, "".join(parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            before, after = text_of(left, constants), text_of(right, constants)
            return None if before is None and after is None else f"{before or UNKNOWN}{after or UNKNOWN}"
        case _:
            return None


def name_callee(node: ast.Call) -> str:
    """Return the last part of what is called: ``set`` of ``writer.set(...)``."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield all functions and methods."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def find_assignments(function: ast.FunctionDef | ast.AsyncFunctionDef, call: ast.Call) -> dict[str, list[ast.expr]]:
    """Return what a function assigned to its variables in the lines above a call, the nearest first."""
    found: dict[str, list[tuple[int, ast.expr]]] = {}
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign) or node.lineno >= call.lineno:
            continue
        target, value = node.targets[0], node.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))
        for name, given in pairs:
            if isinstance(name, ast.Name):
                found.setdefault(name.id, []).append((node.lineno, given))
    return {name: [value for _, value in sorted(values, key=_line, reverse=True)] for name, values in found.items()}


def _line(assigned: tuple[int, ast.expr]) -> int:
    return assigned[0]


def _strings(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value))):
            yield name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(value))):
            yield name, value
        case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
            for target, value in zip(names, values, strict=False):
                if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield target.id, value.value
        case _:
            return
