"""The page of the plug-in API: the classes that a plug-in implements or gets, from their docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

from hack.reference.markdown import block, code, page, paragraph, prose, table
from hack.reference.source import Module

LINE = 120
"""The length of a line of code."""


def render(
    groups: Sequence[str], installed: Mapping[str, Mapping[str, str]], interfaces: Mapping[str, Sequence[ast.ClassDef]]
) -> str:
    """Return the page.

    Args:
        groups: The kinds of plug-ins.
        installed: The entry points of each group: a name, and the class that it stands for.
        interfaces: The classes to document for each kind; the first is the one that a plug-in implements.
    """
    blocks = [
        paragraph(
            "A plug-in is a class that a distribution registers under an entry point. The run file then names it. "
            "[Your own environment](../tutorial.md) builds one from an empty folder."
        )
    ]
    for kind in groups:
        group = f"distillery.{kind}"
        entries = installed.get(group, {})
        blocks += [
            f"## {kind.capitalize()}",
            paragraph(f"The group of entry points is {code(group)}. Distillery's packages register these:"),
            table(["name", "class"], [[code(name), code(target)] for name, target in entries.items()]),
        ]
        for definition in interfaces.get(kind, ()):
            blocks += _class(definition)
    return page("Plug-in API", *blocks)


def classes(module: Module, *names: str) -> list[ast.ClassDef]:
    """Return classes of a module by their names, or all public ones in the module's order."""
    found = {node.name: node for node in module.tree.body if isinstance(node, ast.ClassDef)}
    return [found[name] for name in names or (name for name in found if not name.startswith("_"))]


def _class(definition: ast.ClassDef) -> Iterator[str]:
    yield f"### {definition.name}"
    yield prose(ast.get_docstring(definition) or "")
    if attributes := list(_attributes(definition)):
        yield table(["attribute", "type", "default", "meaning"], attributes)
    for node in definition.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_private(node.name):
            yield block(_signature(node), "python")
            if text := ast.get_docstring(node):
                yield prose(text)


def _is_private(name: str) -> bool:
    return name.startswith("_") and name != "__init__"


def _attributes(definition: ast.ClassDef) -> Iterator[list[str]]:
    """Yield the attributes that have a docstring of their own, or that an interface requires."""
    documented = "Attributes:" in (ast.get_docstring(definition) or "")
    following: list[ast.stmt | None] = [*definition.body[1:], None]
    for statement, after in zip(definition.body, following, strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        note = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            note = " ".join(str(after.value.value).replace("``", "`").split())
        if note or not documented:
            default = code(ast.unparse(statement.value)) if statement.value else ""
            yield [code(statement.target.id), code(_type(statement.annotation)), default, note]


def _type(annotation: ast.expr) -> str:
    """Return the type of an attribute; a class variable's without the wrapper."""
    match annotation:
        case ast.Subscript(value=ast.Name(id="ClassVar"), slice=inner):
            return ast.unparse(inner)
        case _:
            return ast.unparse(annotation)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return the signature in the form of a stub, as ruff formats it: a long one has a line for each argument."""
    decorators = "".join(f"@{ast.unparse(decorator)}\n" for decorator in node.decorator_list)
    start = f"{'async def' if isinstance(node, ast.AsyncFunctionDef) else 'def'} {node.name}("
    end = f"){f' -> {ast.unparse(node.returns)}' if node.returns else ''}: ..."
    arguments = list(_arguments(node.args))
    line = f"{start}{', '.join(arguments)}{end}"
    if len(line) > LINE:
        line = "\n".join([start, *(f"    {argument}," for argument in arguments), end])
    return decorators + line


def _arguments(given: ast.arguments) -> Iterator[str]:
    positional = [*given.posonlyargs, *given.args]
    defaults = [*[None] * (len(positional) - len(given.defaults)), *given.defaults]
    for argument, default in zip(positional, defaults, strict=True):
        yield _argument(argument, default)
        if given.posonlyargs and argument is given.posonlyargs[-1]:
            yield "/"
    if given.vararg or given.kwonlyargs:
        yield f"*{_argument(given.vararg, None) if given.vararg else ''}"
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield _argument(argument, default)
    if given.kwarg:
        yield f"**{_argument(given.kwarg, None)}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    text = f"{argument.arg}: {ast.unparse(argument.annotation)}" if argument.annotation else argument.arg
    if default is None:
        return text
    return f"{text} = {ast.unparse(default)}" if argument.annotation else f"{text}={ast.unparse(default)}"
