"""A reader of WebShop's big JSON files, piece by piece: parsed whole, the full catalog would take 20 GB of memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

_CHUNK = 1 << 22  # characters

Progress = Callable[[int], None]
"""Called now and then with how many bytes of the file were read."""


class MalformedFileError(Exception):
    """A file isn't what its name promises; the message names it."""


def read_elements(file: Path, *, progress: Progress = lambda read: None) -> Iterator[dict[str, Any]]:
    """Yield the elements of a file that is one array of objects.

    Raises:
        MalformedFileError: it is something else.
    """
    with _Reader(file, progress) as reader:
        reader.expect("[")
        while reader.peek() != "]":
            yield reader.read_value()
            reader.skip_comma("]")


def read_members(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield the members of a file that is one object, whose values are objects or arrays.

    Raises:
        MalformedFileError: it is something else.
    """
    with _Reader(file, lambda read: None) as reader:
        reader.expect("{")
        while reader.peek() != "}":
            name = reader.read_value()
            reader.expect(":")
            yield name, reader.read_value()
            reader.skip_comma("}")


class _Reader:
    """A window on a file's text. Values must end by a bracket or a quote, so that half a value never looks whole."""

    def __init__(self, file: Path, progress: Progress) -> None:
        self._name = file
        self._bytes = file.open("rb")
        self._file = TextIOWrapper(self._bytes, encoding="utf-8")
        self._progress = progress
        self._text = ""
        self._at = 0
        self._decode = json.JSONDecoder().raw_decode

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def peek(self) -> str:
        """Return the next character that isn't blank."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._read_more():
                raise MalformedFileError(f"{self._name} ends too early")

    def expect(self, character: str) -> None:
        """Step over a character."""
        if (actual := self.peek()) != character:
            raise MalformedFileError(f"{self._name} isn't WebShop's: it has {actual!r} where {character!r} should be")
        self._at += 1

    def skip_comma(self, end: str) -> None:
        """Step over the comma between two values, unless the end follows."""
        if self.peek() != end:
            self.expect(",")
            if self.peek() == end:
                raise MalformedFileError(f"{self._name} isn't JSON: a comma before {end!r}")

    def read_value(self) -> Any:
        """Return the next value."""
        self.peek()
        while True:
            try:
                value, self._at = self._decode(self._text, self._at)
                return value
            except json.JSONDecodeError as error:
                if not self._read_more():
                    raise MalformedFileError(f"{self._name} isn't JSON: {error}") from error

    def _read_more(self) -> bool:
        """Widen the window; what was read already leaves it."""
        try:
            chunk = self._file.read(_CHUNK + len(self._text) - self._at)
            self._progress(self._bytes.tell())
        except UnicodeDecodeError as error:
            raise MalformedFileError(f"{self._name} isn't UTF-8: {error}") from error
        self._text = self._text[self._at :] + chunk
        self._at = 0
        return bool(chunk)
