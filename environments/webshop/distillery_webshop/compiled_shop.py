"""The compiled shop, as sessions use it. Everything is mapped from files, so that worker processes share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from distillery.environments.base import EnvironmentConfigurationError
from distillery_webshop import goals, nouns, products
from distillery_webshop.records import Records, map_file

if TYPE_CHECKING:
    from distillery_webshop.search import Index

LISTINGS, PRODUCTS, GOALS, ORDER, INDEX = "listings", "products", "goals", "order", "index"


class Goals:
    """The goals in their final order."""

    def __init__(self, folder: Path) -> None:
        """Map what the compilation wrote."""
        self._records = Records(folder, GOALS)
        self._order = memoryview(map_file(folder / ORDER)).cast("q")

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, number: int) -> goals.Goal:
        return goals.read_goal(self._records[self._order[number]])


class CompiledShop:
    """Products, goals and search. Loads bm25s at the first search, the tagger at the first purchase."""

    def __init__(self, folder: Path, tagger: str) -> None:
        """Map a compiled shop.

        Args:
            folder: of the shop.
            tagger: the full name of the one that finds nouns.
        """
        self.goals = Goals(folder)
        self._folder = folder
        self._tagger = tagger
        self._listings = Records(folder, LISTINGS)
        self._products = Records(folder, PRODUCTS)

    @cached_property
    def nouns(self) -> Callable[[str], Sequence[str]]:
        """The function that finds the nouns of a title."""
        return nouns.load_tagger(self._tagger)

    def search(self, words: str) -> list[int]:
        """Return the numbers of the products that match, best first."""
        return self._index.search(words)

    def read_listing(self, number: int) -> products.Listing:
        """Return the part of a product that a result page shows."""
        return products.read_listing(self._listings[number])

    def read_product(self, number: int) -> products.Product:
        """Return a whole product."""
        return products.read_record(self._listings[number], self._products[number])

    @cached_property
    def _index(self) -> Index:
        return import_search().Index(self._folder / INDEX)


def import_search() -> ModuleType:
    """Import the module :mod:`.search`, whose packages are loaded late.

    Raises:
        EnvironmentConfigurationError: they aren't installed.
    """
    try:
        from distillery_webshop import search
    except ImportError as error:
        raise EnvironmentConfigurationError(
            f"WebShop needs {error.name}, and it isn't installed: pip install distillery-webshop"
        ) from error
    return search
