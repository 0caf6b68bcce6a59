"""Our own products and instructions, for users without WebShop's: the same bytes for a seed, in WebShop's own format.

A product is a product type with a brand, some of the attributes and options that its kind can have, and a price. Every
kind has the same number of products, so that an instruction is about finding the one with the right attributes.
Each product's instructions are answered by the product itself with the right options: every goal can be reached.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import capwords
from typing import Any, TextIO

from distillery_webshop.datafiles import DataFiles
from distillery_webshop.goals import split_goals
from distillery_webshop.product_types import ProductType, read_product_types

VERSION = 1
"""Another version's products of the same seed are other products."""

_MIN_PRODUCTS = 400
_MORE_PRODUCTS = 50
_INSTRUCTIONS_PER_PRODUCT = 4  # to a product; it has at least as many combinations of options
_MAX_INSTRUCTED_PRODUCTS = 25_000  # products; of WebShop's a hundredth have any
_PRODUCTS_PER_REPORT = 1000

_DIGITS = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # of the numbers of products
_NUMBERS = len(_DIGITS) ** 8
_STRIDE = 1_000_000_007  # shares no factor with _NUMBERS: no number comes twice

_SYLLABLES = (
    "ba", "be", "co", "da", "do", "fe", "fi", "ga", "ka", "ki", "la", "lo", "lu", "ma", "mi", "na", "no", "pa",
    "ra", "ri", "ro", "sa", "so", "ta", "ti", "to", "va", "vi", "zo", "ze",
)  # fmt: skip
_ENDINGS = (
    "ck", "ll", "n", "nd", "r", "rt", "s", "th", "x", "z",
)  # fmt: skip
_PRAISE = ("Classic", "Everyday", "Premium", "Handy", "Trusted", "Simple", "Original", "Deluxe")
_REASONS = (
    "It is made with care and checked twice before it leaves our house.",
    "Customers come back for it year after year, and so will you.",
    "We changed it after hearing what people missed in others of its kind.",
    "If you are not happy with it, write to us and we will find a way.",
    "It comes in a plain box without plastic, ready to be given as a present.",
)
_FEATURES = (
    "what you should expect of {name} for {use}",
    "made with {use} in mind",
    "tested for {use} in our own workshop, so that you need not worry about it",
    "one of the things that set our {name} apart from others",
)
_WISHES = (
    "i am looking for {thing} that {be} {attributes}{options}",
    "i need {praised}{options}",
    "find me {thing}{options}, {attributes}",
    "i want to buy {praised}{options}",
    "show me {thing} for {use} that {be} {attributes}{options}",
)
_PHRASES = {
    "color": " in {}",
    "size": ", {} size",
    "scent": " with {} scent",
    "flavor": " with {} flavor",
    "flavor name": " with {} flavor",
    "style": ", {} style",
}


@dataclass(frozen=True, slots=True)
class GeneratedProduct:
    """A product with what its entries in WebShop's three files hold."""

    product: Mapping[str, Any]
    attributes: Mapping[str, Any]
    instructions: list[Mapping[str, Any]]


def count_products(wanted: Mapping[str, int]) -> int:
    """Return how many products give each split as many goals as wanted, as far as splits can have so many."""
    most = split_goals(_INSTRUCTIONS_PER_PRODUCT * _MAX_INSTRUCTED_PRODUCTS)
    number = _MIN_PRODUCTS
    while any(
        len(has) < min(wanted.get(split, 0), len(most[split]))
        for split, has in split_goals(_INSTRUCTIONS_PER_PRODUCT * min(number, _MAX_INSTRUCTED_PRODUCTS)).items()
    ):
        number += _MORE_PRODUCTS
    return number


def write_catalog(files: DataFiles, seed: int, number: int, *, progress: Callable[[float], None]) -> None:
    """Write the three files of a catalog.

    ``progress`` is called with the share that is done; an exception that it raises ends the work.
    """
    files.products.parent.mkdir(parents=True, exist_ok=True)
    with (
        files.products.open("w", encoding="utf-8") as products,
        files.attributes.open("w", encoding="utf-8") as attributes,
        files.instructions.open("w", encoding="utf-8") as instructions,
    ):
        for index in range(number):
            if index % _PRODUCTS_PER_REPORT == 0:
                progress(index / number)
            generated = make_product(seed, index)
            asin = generated.product["asin"]
            _write_entry(products, "[" if index == 0 else ",", generated.product)
            _write_entry(attributes, "{" if index == 0 else ",", generated.attributes, asin)
            if generated.instructions:
                _write_entry(instructions, "{" if index == 0 else ",", generated.instructions, asin)
        products.write("\n]\n")
        attributes.write("\n}\n")
        instructions.write("\n}\n")


def make_product(seed: int, index: int) -> GeneratedProduct:
    """Make product ``index`` of a seed: it doesn't depend on how many there are."""
    rng = random.Random(f"webshop {VERSION} {seed} {index}")  # noqa: S311 - no secret
    kinds = read_product_types()
    kind = kinds[index % len(kinds)]
    asin = _compute_asin(seed, index)
    brand = "".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3)) + rng.choices(_ENDINGS)).capitalize()
    attributes = rng.sample(kind.attributes, rng.randint(3, 4))
    options = {name: _sample_values(values, rng) for name, values in kind.options.items()}
    product = {
        "asin": asin,
        "name": _format_title(kind, brand, attributes, rng),
        "full_description": _format_description(kind, brand, rng),
        "pricing": _draw_pricing(kind, rng),
        "images": [""],
        "product_category": kind.path,
        "average_rating": "",
        "small_description": [_format_feature(kind, attribute, rng) for attribute in attributes],
        "customization_options": {
            capwords(name): [{"value": value, "image": None} for value in values] for name, values in options.items()
        },
        "category": kind.category,
        "query": kind.name,
        "page": 1,
    }
    entry: dict[str, Any] = {"attributes": attributes}
    instructions: list[Mapping[str, Any]] = []
    if index < _MAX_INSTRUCTED_PRODUCTS:
        chosen = rng.sample(attributes, 2)
        entry |= {"instruction": f"Find me {', '.join(chosen)} {kind.name}", "instruction_attributes": chosen}
        instructions = [
            _make_instruction(kind, asin, attributes, options, rng) for _ in range(_INSTRUCTIONS_PER_PRODUCT)
        ]
    return GeneratedProduct(product, entry, instructions)


def _make_instruction(
    kind: ProductType, asin: str, attributes: list[str], options: Mapping[str, list[str]], rng: random.Random
) -> Mapping[str, Any]:
    """Make a wish in words like people's: one or two of the attributes, one or all of the options."""
    wished = rng.sample(attributes, rng.randint(1, 2))
    names = list(options) if rng.random() < 0.7 else [rng.choice(list(options))]
    values = {name: rng.choice(options[name]) for name in names}
    attributes_wished = " and ".join(wished)
    plural = kind.name.endswith("s") and not kind.name.endswith("ss")
    words = rng.choice(_WISHES).format(
        thing=_add_article(kind.name, plural),
        praised=_add_article(f"{attributes_wished} {kind.name}", plural),
        be="are" if plural else "is",
        attributes=attributes_wished,
        options="".join(_PHRASES[name].format(value) for name, value in values.items()),
        use=rng.choice(kind.uses),
    )
    return {
        "asin": asin,
        "instruction": words,
        "attributes": attributes,
        "options": [f"{name}: {value}" for name, value in values.items()],
        "instruction_attributes": wished,
        "instruction_options": list(values.values()),
    }


def _add_article(words: str, plural: bool) -> str:
    if plural:
        return f"some {words}"
    return f"an {words}" if words[0] in "aeio" or words.startswith(("hdmi", "ultra")) else f"a {words}"


def _format_title(kind: ProductType, brand: str, attributes: list[str], rng: random.Random) -> str:
    model = f"{rng.choice(_DIGITS[10:])}{rng.choice(_DIGITS[10:])}{rng.randint(10, 999)}"
    shown = ", ".join(capwords(attribute) for attribute in rng.sample(attributes, 2))
    return (
        f"{brand} {rng.choice(_PRAISE)} {capwords(kind.name)} {model}, {shown}, for {capwords(rng.choice(kind.uses))}"
    )


def _format_description(kind: ProductType, brand: str, rng: random.Random) -> str:
    """Return a description. It leaves the attributes to the features, so that there is a reason to look there."""
    begin = f"This {kind.name} by {brand} is meant for {' and '.join(kind.uses)}."
    return " ".join([begin, *rng.sample(_REASONS, rng.randint(2, 4))])


def _format_feature(kind: ProductType, attribute: str, rng: random.Random) -> str:
    return f"{attribute.capitalize()}: {rng.choice(_FEATURES).format(name=kind.name, use=rng.choice(kind.uses))}"


def _draw_pricing(kind: ProductType, rng: random.Random) -> str:
    """Return one price, for some products a range, for some none."""
    low, high = kind.price
    price = rng.randint(low * 100, high * 100) / 100
    chance = rng.random()
    if chance < 0.05:
        return ""
    return f"${price:.2f}" if chance < 0.9 else f"${price:.2f} - ${price * 1.3:.2f}"


def _sample_values(values: tuple[str, ...], rng: random.Random) -> list[str]:
    """Draw some of the values, and return them in their order."""
    kept = set(rng.sample(values, rng.randint(2, min(5, len(values)))))
    return [value for value in values if value in kept]


def _compute_asin(seed: int, index: int) -> str:
    number = (index * _STRIDE + seed * 7_654_321) % _NUMBERS
    digits = ""
    for _ in range(8):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"B0{digits}"


def _write_entry(file: TextIO, before: str, value: Any, name: str | None = None) -> None:
    key = "" if name is None else f"{json.dumps(name)}:"
    file.write(f"{before}\n{key}{json.dumps(value, ensure_ascii=False)}")
