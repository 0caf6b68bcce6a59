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

from distillery.environments.webshop.datafiles import DataFiles
from distillery.environments.webshop.goals import splits
from distillery.environments.webshop.wares import Ware, wares

VERSION = 1
"""Another version's products of the same seed are other products."""

_FEWEST = 400
_MORE = 50
_INSTRUCTIONS = 4  # to a product; it has at least as many combinations of options
_WITH_INSTRUCTIONS = 25_000  # products; of WebShop's a hundredth have any
_PROGRESS = 1000

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
class Made:
    """A product with what its entries in WebShop's three files hold."""

    product: Mapping[str, Any]
    attributes: Mapping[str, Any]
    instructions: list[Mapping[str, Any]]


def enough_for(wanted: Mapping[str, int]) -> int:
    """Return how many products give each split as many goals as wanted, as far as splits can have so many."""
    most = splits(_INSTRUCTIONS * _WITH_INSTRUCTIONS)
    number = _FEWEST
    while any(
        len(has) < min(wanted.get(split, 0), len(most[split]))
        for split, has in splits(_INSTRUCTIONS * min(number, _WITH_INSTRUCTIONS)).items()
    ):
        number += _MORE
    return number


def write(files: DataFiles, seed: int, number: int, *, progress: Callable[[float], None]) -> None:
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
            if index % _PROGRESS == 0:
                progress(index / number)
            made = make(seed, index)
            asin = made.product["asin"]
            _put(products, "[" if index == 0 else ",", made.product)
            _put(attributes, "{" if index == 0 else ",", made.attributes, asin)
            if made.instructions:
                _put(instructions, "{" if index == 0 else ",", made.instructions, asin)
        products.write("\n]\n")
        attributes.write("\n}\n")
        instructions.write("\n}\n")


def make(seed: int, index: int) -> Made:
    """Make product ``index`` of a seed: it doesn't depend on how many there are."""
    rng = random.Random(f"webshop {VERSION} {seed} {index}")  # noqa: S311 - no secret
    ware = wares()[index % len(wares())]
    asin = _asin(seed, index)
    brand = "".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3)) + rng.choices(_ENDINGS)).capitalize()
    attributes = rng.sample(ware.attributes, rng.randint(3, 4))
    options = {name: _some(values, rng) for name, values in ware.options.items()}
    product = {
        "asin": asin,
        "name": _title(ware, brand, attributes, rng),
        "full_description": _description(ware, brand, rng),
        "pricing": _pricing(ware, rng),
        "images": [""],
        "product_category": ware.path,
        "average_rating": "",
        "small_description": [_feature(ware, attribute, rng) for attribute in attributes],
        "customization_options": {
            capwords(name): [{"value": value, "image": None} for value in values] for name, values in options.items()
        },
        "category": ware.category,
        "query": ware.name,
        "page": 1,
    }
    entry: dict[str, Any] = {"attributes": attributes}
    instructions: list[Mapping[str, Any]] = []
    if index < _WITH_INSTRUCTIONS:
        chosen = rng.sample(attributes, 2)
        entry |= {"instruction": f"Find me {', '.join(chosen)} {ware.name}", "instruction_attributes": chosen}
        instructions = [_instruction(ware, asin, attributes, options, rng) for _ in range(_INSTRUCTIONS)]
    return Made(product, entry, instructions)


def _instruction(
    ware: Ware, asin: str, attributes: list[str], options: Mapping[str, list[str]], rng: random.Random
) -> Mapping[str, Any]:
    """A wish in words like people's: one or two of the attributes, one or all of the options."""
    wished = rng.sample(attributes, rng.randint(1, 2))
    names = list(options) if rng.random() < 0.7 else [rng.choice(list(options))]
    values = {name: rng.choice(options[name]) for name in names}
    attributes_wished = " and ".join(wished)
    plural = ware.name.endswith("s") and not ware.name.endswith("ss")
    words = rng.choice(_WISHES).format(
        thing=_with_article(ware.name, plural),
        praised=_with_article(f"{attributes_wished} {ware.name}", plural),
        be="are" if plural else "is",
        attributes=attributes_wished,
        options="".join(_PHRASES[name].format(value) for name, value in values.items()),
        use=rng.choice(ware.uses),
    )
    return {
        "asin": asin,
        "instruction": words,
        "attributes": attributes,
        "options": [f"{name}: {value}" for name, value in values.items()],
        "instruction_attributes": wished,
        "instruction_options": list(values.values()),
    }


def _with_article(words: str, plural: bool) -> str:
    if plural:
        return f"some {words}"
    return f"an {words}" if words[0] in "aeio" or words.startswith(("hdmi", "ultra")) else f"a {words}"


def _title(ware: Ware, brand: str, attributes: list[str], rng: random.Random) -> str:
    model = f"{rng.choice(_DIGITS[10:])}{rng.choice(_DIGITS[10:])}{rng.randint(10, 999)}"
    shown = ", ".join(capwords(attribute) for attribute in rng.sample(attributes, 2))
    return (
        f"{brand} {rng.choice(_PRAISE)} {capwords(ware.name)} {model}, {shown}, for {capwords(rng.choice(ware.uses))}"
    )


def _description(ware: Ware, brand: str, rng: random.Random) -> str:
    """It leaves the attributes to the features, as shops do, so that there is a reason to look there."""
    begin = f"This {ware.name} by {brand} is meant for {' and '.join(ware.uses)}."
    return " ".join([begin, *rng.sample(_REASONS, rng.randint(2, 4))])


def _feature(ware: Ware, attribute: str, rng: random.Random) -> str:
    return f"{attribute.capitalize()}: {rng.choice(_FEATURES).format(name=ware.name, use=rng.choice(ware.uses))}"


def _pricing(ware: Ware, rng: random.Random) -> str:
    """One price, for some a range, for some none."""
    low, high = ware.price
    price = rng.randint(low * 100, high * 100) / 100
    kind = rng.random()
    if kind < 0.05:
        return ""
    return f"${price:.2f}" if kind < 0.9 else f"${price:.2f} - ${price * 1.3:.2f}"


def _some(values: tuple[str, ...], rng: random.Random) -> list[str]:
    """Some of the values, in their order."""
    kept = set(rng.sample(values, rng.randint(2, min(5, len(values)))))
    return [value for value in values if value in kept]


def _asin(seed: int, index: int) -> str:
    number = (index * _STRIDE + seed * 7_654_321) % _NUMBERS
    digits = ""
    for _ in range(8):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"B0{digits}"


def _put(file: TextIO, before: str, value: Any, name: str | None = None) -> None:
    key = "" if name is None else f"{json.dumps(name)}:"
    file.write(f"{before}\n{key}{json.dumps(value, ensure_ascii=False)}")
