"""The colors by which the reward compares options: ``dark navy blue`` and ``navy`` both become the first one found
here.

The list and its order are part of the reward's definition (WebShop's ``normalize.py``): ``dark`` counts as a color,
and ``red`` is found in ``colored``.
"""

from __future__ import annotations

_COLOURS = (
    "alabaster", "apricot", "aqua", "ash", "asphalt", "azure", "banana", "beige", "black", "blue", "blush",
    "bordeaux", "bronze", "brown", "burgundy", "camel", "camo", "caramel", "champagne", "charcoal", "cheetah",
    "chestnut", "chocolate", "christmas", "coffee", "cognac", "copper", "coral", "cranberry", "cream",
    "crystal", "dark", "denim", "eggplant", "elephant", "espresso", "fuchsia", "gold", "granite", "grape",
    "graphite", "grass", "gray", "green", "grey", "heather", "indigo", "ivory", "ivy", "khaki", "lavender",
    "lemon", "leopard", "light", "lilac", "lime", "magenta", "maroon", "mauve", "merlot", "midnight", "mint",
    "mocha", "multicolor", "mushroom", "mustard", "natural", "navy", "nude", "olive", "orange", "peach",
    "pewter", "pink", "plum", "purple", "rainbow", "red", "rose", "royal", "rust", "sand", "sapphire",
    "seashell", "silver", "skull", "slate", "steel", "stone", "stonewash", "sunflower", "tan", "taupe", "teal",
    "tiger", "turquoise", "violet", "walnut", "wheat", "white", "wine", "yellow",
)  # fmt: skip


def normalise(option: str | tuple[str, str]) -> str:
    """Return the first color of the list that is in an option, else the option.

    In a text a color is found anywhere, in a (name, value) only if it is the whole value; the original asks ``in``
    of either. A pair without a color is compared as Python writes it, name and all.
    """
    return next((colour for colour in _COLOURS if colour in option), str(option))
