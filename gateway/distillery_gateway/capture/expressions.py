"""Regular expressions that users of a run write, and that run on texts of clients.

RE2 compiles them: Python's own engine can take forever on one line, by a repeat within a repeat and by other forms
that no check of the expression finds, and it holds the interpreter meanwhile.
"""

from __future__ import annotations

from typing import Protocol

import re2


class InvalidExpression(ValueError):
    """An expression that RE2 rejects; the message gives the reason."""


class Expression(Protocol):
    """A compiled expression."""

    @property
    def pattern(self) -> str:
        """The expression as it was written."""
        ...

    def sub(self, repl: str, text: str) -> str:
        """Return the text with each match replaced. It holds no halves of characters, which have no UTF-8."""
        ...


def compile_expression(expression: str) -> Expression:
    """Compile an expression in RE2's syntax. Raises :class:`InvalidExpression`."""
    options = re2.Options()
    options.log_errors = False  # to stderr, past the logs
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        reason = error.args[0]
        raise InvalidExpression(
            reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        ) from error
    except UnicodeEncodeError as error:
        raise InvalidExpression("it holds half a character") from error
