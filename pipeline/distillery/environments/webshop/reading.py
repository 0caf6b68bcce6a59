"""The facts in an episode's own text: the actions that were possible on which pages, and the worth of purchases.

Nothing here asks the shop: the extractor `rules` may know only what the agent could have read. Texts that users'
clients send are read too, so no text may raise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from distillery.environments.base import Fact
from distillery.environments.webshop import actions, pages
from distillery.environments.webshop.session import REFUSAL

PURCHASE = "buy"
"""The ``thing`` of the facts about purchases."""

_ASIN = re.compile(r"b[0-9a-z]{9}|[0-9]{9}[0-9x]")
_NUMBER = r"\d+(?:\.\d*)?"
_LIMIT = re.compile(rf"price lower than ({_NUMBER}) dollars")
_PRICE = re.compile(rf"\$({_NUMBER})")
_NAMED_BUTTONS = {
    button.lower()
    for button in (
        pages.BACK_TO_SEARCH, pages.NEXT, pages.PREVIOUS, pages.BUY,
        pages.DESCRIPTION, pages.FEATURES, pages.REVIEWS, pages.ATTRIBUTES,
    )
}  # fmt: skip
_OPTION_NAMES = {"color", "size", "style", "scent", "flavor", "flavor name", "material", "pattern name", "fit type"}

_ON_SEARCH, _ON_RESULTS, _ON_PRODUCT, _ON_TEXT = (
    f"on {page}" for page in ("the search page", "a page of results", "a product's page", "a product's text")
)


@dataclass(slots=True)
class _Known:
    """What the agent can know at one point of an episode."""

    instruction: str
    page: str
    product: list[str] = field(default_factory=list)
    """The texts of the product's page that was seen last."""
    chosen: set[str] = field(default_factory=set)
    read: bool = False
    """Its description or its features were read."""


def read(opening: str, turns: Sequence[tuple[str, str]]) -> list[Fact]:
    """Return the facts of one episode, in order. See :meth:`.base.Environment.read`.

    Of each command: ``accepted`` or ``refused``, under the conditions of being on which page and of ``the button is on
    the page``. Things are ``search``, ``click a product``, ``click an option`` and, for instance, ``click buy now``.

    Of a purchase besides: ``scored``, as the thing ``buy``; the conditions are what had been done for it and how it
    looked (:func:`_conditions_of_purchase`).
    """
    parts = opening.split(pages.SEPARATOR)
    known = _Known(instruction=parts[2] if len(parts) > 2 else "", page=opening)
    facts: list[Fact] = []
    for text, observation in turns:
        command = actions.parse(text)
        if command is None:
            continue
        accepted = observation != REFUSAL
        kind = "accepted" if accepted else "refused"
        facts.append(Fact(kind, thing=_thing(command), conditions=_conditions(known, command)))
        if (score := _score(observation)) is not None:
            facts.append(Fact("scored", thing=PURCHASE, conditions=_conditions_of_purchase(known), score=score))
        if accepted:
            _learn(known, command, observation)
    return facts


def _thing(command: actions.Action) -> str:
    if command.verb == actions.SEARCH:
        return command.verb
    if command.argument in _NAMED_BUTTONS:
        return f"{command.verb} {command.argument}"
    return "click a product" if _ASIN.fullmatch(command.argument) else "click an option"


def _conditions(known: _Known, command: actions.Action) -> frozenset[str]:
    conditions = {_where(known.page)} - {""}
    shown = {actions.squeeze(text) for text in known.page.split(pages.SEPARATOR)}
    if command.verb == actions.CLICK and command.argument in shown:
        conditions.add("the button is on the page")
    return frozenset(conditions)


def _conditions_of_purchase(known: _Known) -> frozenset[str]:
    """What held at a purchase.

    * ``the options that the instruction names are chosen``
    * ``the price is below the limit``, where both are shown
    * ``its description or features were read``
    """
    conditions: set[str] = set()
    if _named_options(known) <= known.chosen:
        conditions.add("the options that the instruction names are chosen")
    limit = _LIMIT.search(known.instruction)
    prices = [float(price) for text in known.product if text.startswith("Price: ") for price in _PRICE.findall(text)]
    if limit and prices and max(prices) <= float(limit[1]):
        conditions.add("the price is below the limit")
    if known.read:
        conditions.add("its description or features were read")
    return frozenset(conditions)


def _named_options(known: _Known) -> set[str]:
    """The values on the product's page that the instruction holds word for word."""
    begin = known.product.index(pages.PREVIOUS) + 1 if pages.PREVIOUS in known.product else 0
    end = next((place for place, text in enumerate(known.product) if text.startswith("Price: ")), begin + 1)
    wish = actions.squeeze(known.instruction)
    values = {actions.squeeze(text) for text in known.product[begin : end - 1]} - _OPTION_NAMES
    return {value for value in values if re.search(rf"(?<!\w){re.escape(value)}(?!\w)(?!:)", wish)}


def _learn(known: _Known, command: actions.Action, page: str) -> None:
    known.page = page
    where = _where(page)
    if where == _ON_PRODUCT:
        if _thing(command) == "click an option":
            known.chosen.add(command.argument)
        elif _thing(command) == "click a product":
            known.read = False
        known.product = page.split(pages.SEPARATOR)
    elif where == _ON_TEXT:
        known.read |= command.argument in _lower((pages.DESCRIPTION, pages.FEATURES))
    else:
        known.chosen.clear()


def _where(page: str) -> str:
    """On what kind of page the agent is; empty after the purchase."""
    parts = page.split(pages.SEPARATOR)
    if parts[0] == pages.SHOP:
        return _ON_SEARCH
    if parts[0] != pages.INSTRUCTION:
        return ""
    if parts[-1] == pages.BUY:
        return _ON_PRODUCT
    return _ON_RESULTS if pages.NEXT in parts else _ON_TEXT


def _score(page: str) -> float | None:
    """The score that the last page tells, from 0 to 1; None where it tells none."""
    parts = page.split(pages.SEPARATOR)
    if parts[0] != pages.THANKS or pages.SCORE not in parts[:-1]:
        return None
    told = parts[parts.index(pages.SCORE) + 1]
    return min(1.0, float(told)) if re.fullmatch(_NUMBER, told) else None


def _lower(texts: Iterable[str]) -> set[str]:
    return {text.lower() for text in texts}
