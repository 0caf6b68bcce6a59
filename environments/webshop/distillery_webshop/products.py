"""A product: read from the original's files, kept as two records.

What stands in a result page and what stands in a product's own page are records of their own: a page of results shows
ten of the former, and needs none of the long texts.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

CATEGORIES = {
    "beauty": "beauty",
    "electronics": "electronics",
    "fashion": "fashion",
    "grocery": "food",
    "garden": "furniture",
}
"""The original's categories, and those by which the method's hints are typed."""

_DEFAULT_PRICE = 100.0
_NO_ATTRIBUTES = ("DUMMY_ATTR",)  # what the original gives a product that its file of attributes leaves out
_MAX_ASIN_LENGTH = 10
_NOT_OF_A_NUMBER = re.compile(r"[^\d.]")


@dataclass(frozen=True, slots=True)
class Listing:
    """The part of a product that a result page shows."""

    asin: str
    title: str
    price_tag: str


@dataclass(frozen=True, slots=True)
class Product:
    """A product as the shop knows it.

    Attributes:
        asin: the shop's number of it.
        title: its name.
        price_tag: the price as it is shown; a range for a product that has one.
        description: the text of its page Description.
        features: the points of its page Features.
        options: by the option's name, such as ``size``, its values in the order of the page; all in lower case.
        attributes: the attributes that the reward knows, such as ``gluten free``.
        price: the price that the reward compares.
        query: the search by which it was found when the catalog was made.
        path: its place in the shop's categories, levels divided by ``›``.
        category: one of :data:`CATEGORIES`, as the files spell it.
    """

    asin: str
    title: str
    price_tag: str
    description: str
    features: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    price: float
    query: str
    path: str
    category: str

    def to_document(self) -> str:
        """Return the text by which it is found."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options.items())
        return " ".join([self.title, self.description, self.features[0] if self.features else "", options]).lower()

    def to_records(self) -> tuple[bytes, bytes]:
        """Return the record for result pages and the one for all else. Text that is not valid Unicode becomes ``?``."""
        fields: Sequence[Any] = astuple(self)
        return _encode(fields[:3]), _encode(fields[3:])


def read_product(raw: Mapping[str, Any], attributes: Sequence[str] | None, seed: int) -> Product | None:
    """Return a product from an entry of ``items_shuffle``; None for one that the original leaves out for its number.

    Args:
        raw: the entry.
        attributes: those of ``items_ins_v2``; None if the product isn't there.
        seed: of the price, if the shop asks a range. (The original draws it again in every process.)

    Raises:
        KeyError, TypeError, ValueError: the entry isn't one of the original's.
    """
    asin = raw["asin"]
    if asin == "nan" or len(asin) > _MAX_ASIN_LENGTH:
        return None
    if raw["category"] not in CATEGORIES:
        raise ValueError(f"its category is {raw['category']!r}, not one of {', '.join(CATEGORIES)}")
    features = raw["small_description"]
    price_tag, price = _read_price(raw.get("pricing"), asin, seed)
    return Product(
        asin=asin,
        title=raw["name"],
        price_tag=price_tag,
        description=raw["full_description"] or "",
        features=tuple(features if isinstance(features, list) else [features]),
        options=_read_options(raw["customization_options"]),
        attributes=tuple(_NO_ATTRIBUTES if attributes is None else attributes),
        price=price,
        query=raw["query"].lower().strip(),
        path=raw["product_category"],
        category=raw["category"],
    )


def read_listing(record: bytes) -> Listing:
    """Read a listing from the first of :meth:`Product.to_records`."""
    return Listing(*json.loads(record))


def read_record(listing_record: bytes, record: bytes) -> Product:
    """Read a product from both of :meth:`Product.to_records`."""
    description, features, options, attributes, price, query, path, category = json.loads(record)
    return Product(
        *json.loads(listing_record),
        description=description,
        features=tuple(features),
        options={name: tuple(values) for name, values in options.items()},
        attributes=tuple(attributes),
        price=price,
        query=query,
        path=path,
        category=category,
    )


def _read_price(pricing: str | None, asin: str, seed: int) -> tuple[str, float]:
    """Return the tag and the price: 100 where there is none, one drawn from a range's span."""
    parts = [_NOT_OF_A_NUMBER.sub("", part) for part in (pricing or "").split("$")[1:]]
    prices = [float(part) for part in parts if part.strip(".")]
    if not prices:
        return f"${_DEFAULT_PRICE}", _DEFAULT_PRICE
    if len(prices) == 1:
        return f"${prices[0]}", prices[0]
    drawn = random.Random(f"{seed} price {asin}").uniform(prices[0], prices[1])  # noqa: S311 - no secret
    return f"${prices[0]} to ${prices[1]}", drawn


def _read_options(raw: Mapping[str, Sequence[Mapping[str, Any]] | None] | str | None) -> dict[str, tuple[str, ...]]:
    """Return the options by name, as the pages spell them."""
    if not raw or isinstance(raw, str):
        return {}
    return {
        name.lower(): tuple(value["value"].strip().replace("/", " | ").lower() for value in values)
        for name, values in raw.items()
        if values is not None
    }


def _encode(fields: Sequence[Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
