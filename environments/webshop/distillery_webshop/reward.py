"""The reward of a purchase, from 0 to 1: the original's, with all its quirks.

    reward = type * (attributes + options + price) / (wanted attributes + wanted options + 1)

The quirks, each of which a test holds: the nouns of a wanted title count as often as they occur there; a product
without a noun in common is worth nothing, whatever else fits; options wanted by name are compared as (name, value), so
that their name can match too; a purchase may match a wanted option by any of its own, under any name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from rapidfuzz import fuzz, utils

from distillery_webshop import colors
from distillery_webshop.goals import Goal
from distillery_webshop.products import Product

Nouns = Callable[[str], Sequence[str]]
"""The nouns of a title in lower case, in order; see :mod:`distillery_webshop.nouns`."""

_MIN_SIMILARITY = 85  # of 100
_NOT_ASCII = dict.fromkeys(range(128, 256))  # thefuzz drops these characters, and leaves all that come after


def compute_reward(bought: Product, options: Mapping[str, str], goal: Goal, wanted: Product, nouns: Nouns) -> float:
    """Return the reward of a purchase.

    Args:
        bought: the product.
        options: the values that were chosen, by name.
        goal: what was to be bought.
        wanted: the product that the goal was made for.
        nouns: of a title.
    """
    wishes = goal.options.items() if isinstance(goal.options, Mapping) else goal.options
    met = (
        count_attributes(bought, goal.attributes)
        + count_options(options.values(), wishes)
        + (bought.price <= goal.price_limit)
    )
    return met / (len(goal.attributes) + len(goal.options) + 1) * compute_type_factor(bought, wanted, nouns)


def compute_type_factor(bought: Product, wanted: Product, nouns: Nouns) -> float:
    """Return how well the bought kind of thing matches the wanted one: 1, 0.5, 0.1 or 0."""
    of_wanted = nouns(wanted.title)
    shared = set(nouns(bought.title)) & set(of_wanted)
    alike = len(shared) / len(of_wanted) if of_wanted else 0.2
    if alike == 0:
        return 0.0
    if alike < 0.1:
        return 0.1
    same_shelf = len(_read_levels(bought) & _read_levels(wanted)) >= 2
    return 1.0 if bought.query == wanted.query or same_shelf or alike > 0.2 else 0.5


def count_attributes(bought: Product, wanted: Iterable[str]) -> int:
    """Count the wanted attributes of a product: similar to one of its own, or word for word in one of its texts."""
    texts = [text.lower() for text in (bought.title, " ".join(bought.features), bought.description)]
    return sum(
        any(is_similar(own, attribute) for own in bought.attributes) or any(attribute in text for text in texts)
        for attribute in wanted
    )


def count_options(chosen: Iterable[str], wanted: Iterable[str | tuple[str, str]]) -> int:
    """Return how many of the wanted options a chosen one is similar to; colors by their basic name."""
    values = [colors.find_color(value) for value in chosen]
    return sum(any(is_similar(value, colors.find_color(wish)) for value in values) for wish in wanted)


@lru_cache(maxsize=1 << 14)
def is_similar(one: str, other: str) -> bool:
    """Return whether two texts share their words, by the rounded ratio of thefuzz's ``token_set_ratio``."""
    return round(fuzz.token_set_ratio(_simplify(one), _simplify(other))) > _MIN_SIMILARITY


def _simplify(text: str) -> str:
    return utils.default_process(text.translate(_NOT_ASCII))


def _read_levels(product: Product) -> set[str]:
    return {level.strip() for level in product.path.split("›")}
