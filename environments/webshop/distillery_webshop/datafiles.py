"""WebShop's own files, as its ``setup.sh`` names them, unchanged.

items_shuffle.json      products; items_shuffle_1000.json the first thousand of them
items_ins_v2.json       attributes and synthetic instructions; items_ins_v2_1000.json
items_human_ins.json    instructions that people wrote
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillery.environments.base import EnvironmentConfigurationError
from distillery_webshop import jsonstream

VARIABLE = "WEBSHOP_DATA"

_PRODUCTS, _ATTRIBUTES, _INSTRUCTIONS = "items_shuffle", "items_ins_v2", "items_human_ins"


@dataclass(frozen=True, slots=True)
class DataFiles:
    """The three files of a catalog."""

    products: Path
    attributes: Path
    instructions: Path

    @classmethod
    def in_folder(cls, folder: Path) -> DataFiles:
        """Return the files of our own catalog in a folder."""
        return cls(*(folder / f"{name}.json" for name in (_PRODUCTS, _ATTRIBUTES, _INSTRUCTIONS)))

    def read_attributes(self) -> dict[str, bytes]:
        """Read the entries by asin, as JSON (a quarter of the memory).

        Each has ``attributes``, ``instruction`` and ``instruction_attributes``.
        """
        return {asin: json.dumps(entry).encode() for asin, entry in jsonstream.read_members(self.attributes)}

    def read_instructions(self) -> dict[str, list[Mapping[str, Any]]]:
        """Read the instructions that people wrote, by asin."""
        return dict(jsonstream.read_members(self.instructions))


def find_files(first: int | None) -> DataFiles:
    """Return WebShop's own files in ``$WEBSHOP_DATA``.

    If there are several catalogs, ``items_shuffle_N.json`` is taken for the ``first`` N products, and without a
    number the full one, or the only one that there is.

    Raises:
        EnvironmentConfigurationError: they aren't there, or it isn't clear which are meant.
    """
    if not (named := os.environ.get(VARIABLE)):
        raise EnvironmentConfigurationError(_format_advice(f"${VARIABLE} isn't set"))
    folder = Path(named)
    names = sorted(file.stem for file in folder.glob(f"{_PRODUCTS}*.json"))
    there = [name.removeprefix(_PRODUCTS) for name in names]
    if not there:
        raise EnvironmentConfigurationError(_format_advice(f"${VARIABLE} is {folder}, which has no {_PRODUCTS}*.json"))
    suffix = next((s for s in (f"_{first}", "") if s in there), there[0] if len(there) == 1 else None)
    if suffix is None:
        raise EnvironmentConfigurationError(
            f"{folder} holds {' and '.join(names)}: say which one is meant by WebShop's option products"
        )
    return DataFiles(
        folder / f"{_PRODUCTS}{suffix}.json",
        _find_one(folder, _ATTRIBUTES, suffix),
        _find_one(folder, _INSTRUCTIONS, suffix),
    )


def _find_one(folder: Path, name: str, suffix: str) -> Path:
    """Return the file for the same part of the catalog, else the one for all of it."""
    for file in (folder / f"{name}{suffix}.json", folder / f"{name}.json"):
        if file.is_file():
            return file
    raise EnvironmentConfigurationError(f"{folder} has {_PRODUCTS}{suffix}.json and no {name}.json next to it")


def _format_advice(found: str) -> str:
    return (
        f"WebShop's own catalog is requested, and {found}: get {_PRODUCTS}.json, {_ATTRIBUTES}.json and "
        f"{_INSTRUCTIONS}.json by WebShop's setup.sh and set {VARIABLE} to their folder, or take "
        "`catalog: generated`, which needs no download"
    )
