"""The page of the command line, from the parser of ``distillery``."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator

from hack.reference.markdown import block, code, page, paragraph, table


def render(grammar: argparse.ArgumentParser) -> str:
    """Return the page of a parser with sub-commands."""
    commands = _commands(grammar)
    blocks = [
        paragraph(grammar.description or ""),
        table(["command", "does"], [[f"[{name}](#{grammar.prog}-{name})", text] for name, text, _ in commands]),
        *(part for name, text, parser in commands for part in _command(f"{grammar.prog} {name}", text, parser)),
    ]
    if grammar.epilog:
        blocks += ["## Examples, exit codes and environment", block(inspect.cleandoc(grammar.epilog))]
    return page("Command line", *blocks)


def _commands(grammar: argparse.ArgumentParser) -> list[tuple[str, str, argparse.ArgumentParser]]:
    """Return the name, the help and the parser of each command."""
    (commands,) = (action for action in grammar._actions if isinstance(action, argparse._SubParsersAction))
    helps = {choice.dest: choice.help or "" for choice in commands._choices_actions}
    return [(name, helps.get(name, ""), parser) for name, parser in commands.choices.items()]


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {name}"
    yield paragraph(parser.description or text)
    yield block(f"{name} {' '.join(_usage(parser))}".strip(), "text")
    rows = [
        [code(_names(action)), _default(action), action.help or ""]
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    if rows:
        yield table(["argument", "default", "meaning"], rows)


def _usage(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the words of the usage; options that exclude one another share brackets."""
    exclusive = {id(action): group for group in parser._mutually_exclusive_groups for action in group._group_actions}
    seen: set[int] = set()
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction) or id(action) in seen:
            continue
        group = exclusive.get(id(action))
        together = group._group_actions if group else [action]
        seen |= {id(member) for member in together}
        words = " | ".join(_names(member) for member in together)
        optional = not action.required
        yield f"[{words}]" if optional else words


def _names(action: argparse.Action) -> str:
    """Return an argument as the usage writes it: ``--port PORT``, or ``FILE``."""
    value = action.metavar or action.dest.upper()
    if not action.option_strings:
        return str(value)
    name = action.option_strings[-1]
    return name if action.nargs == 0 else f"{name} {value}"


def _default(action: argparse.Action) -> str:
    return "" if action.default in (None, False, argparse.SUPPRESS) else code(str(action.default))
