"""Goals: the instructions, and the wanted products as the reward knows them; how they are made, ordered and split.

Human goals are instructions that people wrote, taken as they are. Synthetic ones are made for every combination of a
product's options. Both get a limit of the price. Goals are shuffled by a seed that is the original's, so that goal
``i`` here is the original's session ``fixed_i``; only the limits differ, for the original draws them again in every
process.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distillery_webshop.products import CATEGORIES, Product

KINDS = ("human", "synthetic")

NO_LIMIT = 1_000_000.0

_SHUFFLE_SEED = 233
_LIMITS = [10.0 * step for step in range(1, 100)]
_NEXT_LIMITS = 4

_TEST, _DEV = 500, 1000
_MIN_FOR_ALL = 2 * (_TEST + _DEV)


@dataclass(frozen=True, slots=True)
class Goal:
    """A product to buy, with its instruction.

    Attributes:
        product: the number of the product that the instruction was written for.
        asin: the shop's number of it.
        category: of the product, in the method's words.
        instruction: the text that the agent reads.
        attributes: the attributes that the bought product should have; at least one.
        options: the values that should be chosen: by name for a synthetic goal, a list for a human one.
        price_limit: the highest price allowed.
    """

    product: int
    asin: str
    category: str
    instruction: str
    attributes: tuple[str, ...]
    options: Mapping[str, str] | tuple[str, ...]
    price_limit: float

    def to_record(self) -> bytes:
        """Encode the goal as it is kept; :func:`read_goal` reads it."""
        fields = [getattr(self, name) for name in self.__slots__]
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def read_goal(record: bytes) -> Goal:
    """Read a goal from :meth:`Goal.to_record`."""
    product, asin, category, instruction, attributes, options, price_limit = json.loads(record)
    return Goal(
        product=product,
        asin=asin,
        category=category,
        instruction=instruction,
        attributes=tuple(attributes),
        options=options if isinstance(options, dict) else tuple(options),
        price_limit=price_limit,
    )


def make_human_goals(
    number: int, product: Product, instructions: Sequence[Mapping[str, Any]], seed: int
) -> Iterator[Goal]:
    """Yield the goals of a product's entries in ``items_human_ins``; those without attributes are left out."""
    for index, entry in enumerate(instructions):
        attributes = tuple(entry["instruction_attributes"])
        if attributes:
            limit, words = _draw_limit(product, f"{seed} limit {product.asin} {index}")
            yield Goal(
                number,
                product.asin,
                CATEGORIES[product.category],
                entry["instruction"].strip(".") + words,
                attributes,
                tuple(entry["instruction_options"]),
                limit,
            )


def make_synthetic_goals(number: int, product: Product, entry: Mapping[str, Any], seed: int) -> Iterator[Goal]:
    """Yield one goal for each combination of the product's options, from its entry in ``items_ins_v2``."""
    if not entry.get("instruction"):
        return
    limit, words = _draw_limit(product, f"{seed} limit {product.asin}")
    names = sorted(product.options)
    for values in itertools.product(*(product.options[name] for name in names)):
        options = dict(zip(names, values, strict=True))
        chosen = ", and ".join(f"{name}: {value}" for name, value in options.items())
        yield Goal(
            number,
            product.asin,
            CATEGORIES[product.category],
            entry["instruction"] + (f" with {chosen}" if chosen else "") + words,
            tuple(entry["instruction_attributes"]),
            options,
            limit,
        )


def shuffle_goals(count: int) -> list[int]:
    """Return the order of ``count`` goals: place ``i`` holds which of the goals, as they were made, is goal ``i``."""
    order = list(range(count))
    random.Random(_SHUFFLE_SEED).shuffle(order)  # noqa: S311 - no secret
    return order


def split_goals(count: int) -> dict[str, range]:
    """Return the goals of each split: the original's for 3,000 goals and more, else in proportion to that.

    The original's: the first 500 ``test``, the next 1,000 ``dev``, the rest ``train``. Below 3,000 goals that would
    leave fewer to learn from than to test on, so it is a sixth, a third and the rest there.
    """
    test = min(_TEST, count * _TEST // _MIN_FOR_ALL)
    dev = min(_DEV, count * _DEV // _MIN_FOR_ALL)
    return {"train": range(test + dev, count), "dev": range(test, test + dev), "test": range(test)}


def _draw_limit(product: Product, seed: str) -> tuple[float, str]:
    """Draw the limit, the larger of two of the next four multiples of ten, and how the instruction puts it."""
    nearest = [limit for limit in _LIMITS if limit > product.price][:_NEXT_LIMITS]
    if len(nearest) < 2:
        return NO_LIMIT, ""
    limit = max(random.Random(seed).sample(nearest, 2))  # noqa: S311 - no secret
    return limit, f", and price lower than {limit:.2f} dollars"
