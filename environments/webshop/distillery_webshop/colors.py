"""The colors by which the reward compares options: it takes the first color of the list that an option contains.

The list and its order are part of the reward's definition (WebShop's ``normalize.py``): ``dark`` counts as a color,
and ``red`` is found in ``colored``.
"""

from __future__ import annotations

import json
from importlib.resources import files

_COLORS: tuple[str, ...] = tuple(
    json.loads(files("distillery_webshop").joinpath("colors.json").read_text(encoding="utf-8"))
)


def find_color(option: str | tuple[str, str]) -> str:
    """Return the first color of the list that is in an option, else the option.

    In a text a color is found anywhere, in a (name, value) only if it is the whole value; the original asks ``in``
    of either. A pair without a color is compared as Python writes it, name and all.
    """
    return next((color for color in _COLORS if color in option), str(option))
