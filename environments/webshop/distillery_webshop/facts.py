"""The facts in an episode's own text: the actions that were possible on which pages, and the worth of purchases.

Nothing here asks the shop: the extractor `rules` may know only what the agent could have read. Texts that users'
clients send are read too, so no text may raise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from distillery.environments.base import Fact
from distillery_webshop import actions, pages
from distillery_webshop.session import REFUSAL

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
class _Knowledge:
    """What the agent can know at one point of an episode."""

    instruction: str
    page: str
    product: list[str] = field(default_factory=list)
    """The texts of the product's page that was seen last."""
    chosen: set[str] = field(default_factory=set)
    read: bool = False
    """Its description or its features were read."""


def read_facts(opening: str, turns: Sequence[tuple[str, str]]) -> list[Fact]:
    """Return the facts of one episode, in order. See :meth:`.base.Environment.read`.

    Of each command: ``accepted`` or ``refused``, under the conditions of being on which page and of ``the button is on
    the page``. Things are ``search``, ``click a product``, ``click an option`` and, for instance, ``click buy now``.

    Of a purchase besides: ``scored``, as the thing ``buy``; the conditions are what had been done for it and how it
    looked (:func:`_find_purchase_conditions`).
    """
    parts = opening.split(pages.SEPARATOR)
    knowledge = _Knowledge(instruction=parts[2] if len(parts) > 2 else "", page=opening)
    facts: list[Fact] = []
    for text, observation in turns:
        command = actions.parse_action(text)
        if command is None:
            continue
        accepted = observation != REFUSAL
        kind = "accepted" if accepted else "refused"
        facts.append(Fact(kind, thing=_name_thing(command), conditions=_find_conditions(knowledge, command)))
        if (score := _read_score(observation)) is not None:
            facts.append(Fact("scored", thing=PURCHASE, conditions=_find_purchase_conditions(knowledge), score=score))
        if accepted:
            _update(knowledge, command, observation)
    return facts


def _name_thing(command: actions.Action) -> str:
    if command.verb == actions.SEARCH:
        return command.verb
    if command.argument in _NAMED_BUTTONS:
        return f"{command.verb} {command.argument}"
    return "click a product" if _ASIN.fullmatch(command.argument) else "click an option"


def _find_conditions(knowledge: _Knowledge, command: actions.Action) -> frozenset[str]:
    conditions = {_name_page(knowledge.page)} - {""}
    shown = {actions.squeeze(text) for text in knowledge.page.split(pages.SEPARATOR)}
    if command.verb == actions.CLICK and command.argument in shown:
        conditions.add("the button is on the page")
    return frozenset(conditions)


def _find_purchase_conditions(knowledge: _Knowledge) -> frozenset[str]:
    """Return the conditions that held at a purchase.

    * ``the options that the instruction names are chosen``
    * ``the price is below the limit``, where both are shown
    * ``its description or features were read``
    """
    conditions: set[str] = set()
    if _find_named_options(knowledge) <= knowledge.chosen:
        conditions.add("the options that the instruction names are chosen")
    limit = _LIMIT.search(knowledge.instruction)
    prices = [
        float(price) for text in knowledge.product if text.startswith("Price: ") for price in _PRICE.findall(text)
    ]
    if limit and prices and max(prices) <= float(limit[1]):
        conditions.add("the price is below the limit")
    if knowledge.read:
        conditions.add("its description or features were read")
    return frozenset(conditions)


def _find_named_options(knowledge: _Knowledge) -> set[str]:
    """Return the values on the product's page that the instruction holds word for word."""
    begin = knowledge.product.index(pages.PREVIOUS) + 1 if pages.PREVIOUS in knowledge.product else 0
    end = next((place for place, text in enumerate(knowledge.product) if text.startswith("Price: ")), begin + 1)
    wish = actions.squeeze(knowledge.instruction)
    values = {actions.squeeze(text) for text in knowledge.product[begin : end - 1]} - _OPTION_NAMES
    return {value for value in values if re.search(rf"(?<!\w){re.escape(value)}(?!\w)(?!:)", wish)}


def _update(knowledge: _Knowledge, command: actions.Action, page: str) -> None:
    knowledge.page = page
    where = _name_page(page)
    if where == _ON_PRODUCT:
        if _name_thing(command) == "click an option":
            knowledge.chosen.add(command.argument)
        elif _name_thing(command) == "click a product":
            knowledge.read = False
        knowledge.product = page.split(pages.SEPARATOR)
    elif where == _ON_TEXT:
        knowledge.read |= command.argument in _to_lower((pages.DESCRIPTION, pages.FEATURES))
    else:
        knowledge.chosen.clear()


def _name_page(page: str) -> str:
    """Return the kind of page that the agent is on; empty after the purchase."""
    parts = page.split(pages.SEPARATOR)
    if parts[0] == pages.SHOP:
        return _ON_SEARCH
    if parts[0] != pages.INSTRUCTION:
        return ""
    if parts[-1] == pages.BUY:
        return _ON_PRODUCT
    return _ON_RESULTS if pages.NEXT in parts else _ON_TEXT


def _read_score(page: str) -> float | None:
    """Return the score that the last page shows, from 0 to 1; None if it shows none."""
    parts = page.split(pages.SEPARATOR)
    if parts[0] != pages.THANKS or pages.SCORE not in parts[:-1]:
        return None
    score = parts[parts.index(pages.SCORE) + 1]
    return min(1.0, float(score)) if re.fullmatch(_NUMBER, score) else None


def _to_lower(texts: Iterable[str]) -> set[str]:
    return {text.lower() for text in texts}
