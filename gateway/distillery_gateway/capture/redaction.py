"""The redaction of users' texts before they are stored: addresses, keys, numbers, and matches of the run's patterns.

It finds texts that have a form. Names of people, places and other words stay.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

from distillery_gateway.capture.expressions import compile_expression

REDACTED = "[redacted]"

_MAX_PIECE = 4_000
"""Characters that an expression sees at once. Our own hold the interpreter while they run, so each takes a time that is
linear in the length: where a match begins, no other can begin within the text that it may match."""

_RUN = r"[A-Za-z0-9+/_-]"
_OWN = re.compile(
    "|".join(
        [
            r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+",  # mail
            r"(?i:\bbearer\s+[\w.~+/=-]{8,})",
            r"\b(?:sk|dk|pk|rk)-[\w-]{8,}",
            r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}",
            r"\b(?:gh[opsur]|github_pat|glpat|hf)[_-][\w-]{16,}",
            r"\bxox[abeprs]-[\w-]{8,}",
            r"\bAIza[\w-]{20,}",
            r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]+)?",  # JSON web tokens
            rf"(?<!{_RUN})(?=[A-Za-z+/_-]*[0-9]){_RUN}{{32,}}={{0,2}}",  # digests, keys in hexadecimal or base64
            r"(?<![\w-])[0-9](?:[ -]?[0-9]){12,18}(?![\w-])",  # cards
        ]
    )
)
_DIGITS = re.compile(r"(?<![\w.])\+?\(?[0-9][0-9 ().\-/]{6,24}[0-9](?!\w)")
_TELEPHONE_DIGITS = range(9, 16)  # a date has eight


class Redactor:
    """The remover of texts in the form of a secret, and of matches of further expressions.

    Args:
        expressions: in RE2's syntax. Raises :class:`InvalidExpression` if one is invalid.
    """

    def __init__(self, expressions: Sequence[str] = ()) -> None:
        self._further = [compile_expression(expression) for expression in expressions]

    def __call__(self, text: str) -> str:
        """Return the text with secrets replaced."""
        whole = text.encode("utf-8", "replace").decode()  # halves of characters can't be stored either
        return "".join(map(self._redact, _pieces(whole)))

    def name(self, session: str) -> str:
        """Return a session's name, or a digest of it if it holds a mail address or a match of an expression."""
        if "@" in session or any(expression.sub("", session) != session for expression in self._further):
            return f"sha256:{hashlib.sha256(session.encode()).hexdigest()}"
        return session

    def _redact(self, piece: str) -> str:
        (line,) = piece.splitlines()
        end = piece[len(line) :]  # RE2's $ is the very end of its text
        for expression in self._further:
            line = expression.sub(REDACTED, line)
        return _DIGITS.sub(_telephone, _OWN.sub(REDACTED, line)) + end


def _telephone(match: re.Match[str]) -> str:
    digits = sum(character.isdigit() for character in match[0])
    return REDACTED if digits in _TELEPHONE_DIGITS else match[0]


def _pieces(text: str) -> Iterator[str]:
    """Yield the lines of a text, and pieces of lines that are too long, which end at a blank if there is one."""
    for line in text.splitlines(keepends=True):
        while len(line) > _MAX_PIECE:
            cut = line.rfind(" ", 1, _MAX_PIECE) + 1 or _MAX_PIECE
            yield line[:cut]
            line = line[cut:]
        yield line
