"""The states of a game: Fast Downward's library, as TextWorld drives it, without what TextWorld asks it twice.

The library keeps one game in global variables, so each game being played needs a copy of it. Stock TextWorld copies
the whole file for every game, 33 MB; nearly all of that is debugging information, and the 1 MB that the loader maps is
enough.
"""

from __future__ import annotations

import ctypes
import os
import struct
from functools import lru_cache
from typing import Any

import fast_downward.interface

from distillery_alfworld.pddl_reader import Fact

_OPERATOR = struct.Struct("@i1024si")  # id, name, number of effects: `Operator_t` of the library's interface.cc
_ATOM_BYTES = 1024  # `Atom_t`


class Planner:
    """One copy of the library, with one game loaded."""

    def __init__(self) -> None:
        """Load the library."""
        self._library = _load_library()
        self._buffer = ctypes.create_string_buffer(0)

    def load(self, sas: str) -> None:
        """Replace the game. The library ends the process at a text that isn't SAS, so give it only what was checked."""
        self._library.load_sas(sas.encode())

    @property
    def state(self) -> int:
        """The number of the current state. A state that was reached once can be set again."""
        return self._library.get_state_id()

    @state.setter
    def state(self, number: int) -> None:
        self._library.set_state_id(number)

    def is_goal_reached(self) -> bool:
        """Return whether the current state satisfies the game's goal."""
        return self._library.check_goal()

    def list_applicable(self) -> list[tuple[int, bytes, int]]:
        """Return id, name and number of effects of each operator that can be applied now, in the library's order.

        Names end at their first zero byte; cutting them is left to who needs them.
        """
        count = self._library.get_applicable_operators_count()
        size = count * _OPERATOR.size
        if size > len(self._buffer):
            self._buffer = ctypes.create_string_buffer(2 * size)
        self._library.get_applicable_operators(self._buffer)
        return list(_OPERATOR.iter_unpack(memoryview(self._buffer)[:size]))

    def apply(self, operator: int) -> None:
        """Move to the state after an operator that can be applied now."""
        self._library.apply_operator(operator, None)

    def apply_with_effects(self, operator: int, effects: int) -> list[tuple[bool, str, Fact]]:
        """Do the same and give the operator's effects: (becomes true, predicate, arguments), in order."""
        atoms = ctypes.create_string_buffer(effects * _ATOM_BYTES)
        self._library.apply_operator(operator, atoms)
        return [_decode_effect(atoms.raw[start : start + _ATOM_BYTES]) for start in range(0, len(atoms), _ATOM_BYTES)]

    def unload(self) -> None:
        """Free the game."""
        self._library.cleanup()


def decode_field(field: bytes) -> str:
    """Decode a zero-terminated field of the library."""
    return field.partition(b"\0")[0].decode()


def _decode_effect(atom: bytes) -> tuple[bool, str, Fact]:
    """Read ``NegatedAtom holds(agent1, mug_1)`` as (False, "holds", ("agent1", "mug_1"))."""
    kind, _, proposition = decode_field(atom).partition(" ")
    predicate, _, arguments = proposition.rstrip(")").partition("(")
    return kind == "Atom", predicate, tuple(arguments.split(", ")) if arguments else ()


def _load_library() -> Any:
    try:
        library = _load_from_memory()
    except (AttributeError, OSError):  # not Linux, or one that runs nothing from memory
        library = fast_downward.interface.load_lib()
    library.get_applicable_operators.argtypes = library.load_sas.argtypes = [ctypes.c_char_p]
    library.apply_operator.argtypes = [ctypes.c_size_t, ctypes.c_char_p]
    library.check_goal.restype = ctypes.c_bool
    return library


def _load_from_memory() -> Any:
    """Load a copy that is no file, so that no writable and executable /tmp is needed.

    The descriptor stays open: the loader takes two files of one name for one library, and the name is the descriptor's.
    """
    descriptor = os.memfd_create("libdownward")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(_read_loadable_part())
    return ctypes.CDLL(f"/proc/self/fd/{descriptor}")


@lru_cache(maxsize=1)
def _read_loadable_part() -> bytes:
    """Read the library's file up to the end of its last loadable segment (ELF-64, program headers)."""
    with open(fast_downward.interface.DOWNWARD_LIB_PATH, "rb") as file:
        header = file.read(64)
        if header[:5] != b"\x7fELF\x02":
            file.seek(0)
            return file.read()
        (table,) = struct.unpack_from("Q", header, 32)
        size, count = struct.unpack_from("HH", header, 54)
        file.seek(table)
        entries = [file.read(size) for _ in range(count)]
        loadable = [struct.unpack_from("Q16xQ", entry, 8) for entry in entries if entry[:4] == b"\1\0\0\0"]
        file.seek(0)
        return file.read(max(offset + length for offset, length in loadable))
