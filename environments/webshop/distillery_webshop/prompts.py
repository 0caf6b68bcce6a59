"""The instructions for agents in WebShop, in our own words: the commands, and worked examples.

The examples in ``examples.json`` were shopped in a generated shop of their own, with the seed :data:`EXAMPLES_SEED` and
:data:`EXAMPLES_PRODUCTS` products; each names its goal. The integration tests play them again.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files

from distillery.environments.base import Example, ExampleTurn
from distillery_webshop import pages

_INSTRUCTIONS = (
    "You shop for somebody in a web shop: find what the instruction asks for, choose the options that it names, and "
    "buy it. You read a page as its texts, with [SEP] between them. These are the commands:\n"
    "search[words]\n"
    "click[button]\n"
    "You can search on the search page only. What can be clicked is a product's number on a page of results, such as "
    "B07XJ3MP2K, a value of an option on a product's page, and the buttons Back to Search, Next >, < Prev, "
    "Description, Features, Reviews and Buy Now where they are shown. Chosen options are forgotten when you leave the "
    "product for the results. Buy Now ends the task: what you buy is scored by how well its kind, attributes, options "
    "and price fit. {limit}, and without a purchase nothing is scored, so buy the nearest that you found "
    "in time. A command that isn't possible is answered with 'Invalid action!'"
)


def format_instructions(max_steps: int | None) -> str:
    """Return the agent's instructions, with the limit of commands that holds."""
    limit = "The number of commands is limited" if max_steps is None else f"You have {max_steps} commands"
    return _INSTRUCTIONS.format(limit=limit)


VERBS = ("search", "click")

STATE_KEYS = ("goal", "current location", "current selection")

PLACEHOLDERS = ("{item}", "{size}", "{color}", "{attribute}", "{material}")

EXAMPLES_SEED = 20_251_125
EXAMPLES_PRODUCTS = 400

_CLICKED = 3  # the examples click the first three products of a page


@lru_cache(maxsize=pages.RESULTS_PER_PAGE)
def read_examples(shown: int) -> dict[str, tuple[Example, ...]]:
    """Return the worked examples of each category; result pages show ``shown`` products, but at least three."""
    content = json.loads(files("distillery_webshop").joinpath("examples.json").read_text(encoding="utf-8"))
    return {
        category: tuple(
            Example(
                example["opening"],
                tuple(
                    ExampleTurn("", turn["action"], _limit_products(turn["observation"], shown), turn["state"])
                    for turn in example["turns"]
                ),
            )
            for example in shopped
        )
        for category, shopped in content.items()
    }


def _limit_products(text: str, shown: int) -> str:
    """Return a page with at most so many products, each of which is three texts."""
    parts = text.split(pages.SEPARATOR)
    if pages.NEXT not in parts:
        return text
    return pages.SEPARATOR.join(parts[: parts.index(pages.NEXT) + 1 + 3 * max(shown, _CLICKED)])
