"""The product types of the generated shop: eight in each of the five categories, from ``product_types.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class ProductType:
    """A kind of thing.

    Attributes:
        category: as WebShop's files spell it.
        name: what it is called; also the search by which it is said to have been found.
        path: its place in the shop's categories.
        attributes: what can hold of it, and does of some products; at least five.
        options: two of them, by name the values of which products offer some; at least three of each.
        price: of the cheapest and of the dearest, in dollars.
        uses: what it is for.
    """

    category: str
    name: str
    path: str
    attributes: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    price: tuple[int, int]
    uses: tuple[str, ...]


@cache
def read_product_types() -> tuple[ProductType, ...]:
    """Return all product types, in the order in which the generator takes them."""
    content = json.loads(files("distillery_webshop").joinpath("product_types.json").read_text(encoding="utf-8"))
    return tuple(
        ProductType(
            category=entry["category"],
            name=entry["name"],
            path=entry["path"],
            attributes=tuple(entry["attributes"]),
            options={name: tuple(values) for name, values in entry["options"].items()},
            price=(entry["price"][0], entry["price"][1]),
            uses=tuple(entry["uses"]),
        )
        for entry in content
    )
