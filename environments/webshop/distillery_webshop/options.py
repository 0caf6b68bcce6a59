"""``spec.environment.options`` of WebShop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from distillery.environments.base import EnvironmentConfigurationError
from distillery.environments.options import check_names
from distillery_webshop import goals, nouns, pages

CATALOGS = ("auto", "webshop", "generated")


@dataclass(frozen=True)
class Options:
    """The options of the environment.

    Attributes:
        catalog: ``webshop`` for the files in ``$WEBSHOP_DATA``, ``generated`` for our own products, ``auto`` for the
            former if the variable is set and the latter if it isn't.
        goals: ``human`` for instructions in people's words (for generated products: in words like theirs),
            ``synthetic`` for one instruction per combination of a product's options.
        products: how many; of WebShop's own the first so many (all without it), of generated ones as many as the tasks
            need without it.
        seed: of generated products, of prices drawn from a range, and of goals' limits.
        nouns: how the reward finds nouns: ``rule``, the name of an installed English pipeline of spaCy's, or ``auto``;
            see :func:`distillery_webshop.nouns.choose_tagger`.
        shown: how many of the ten products of a result page are shown; the agents of ReAct and of the method see 3.
        attributes: whether a product's page has a button for the attributes that the reward knows, as the original's
            optional ``show_attrs``.
    """

    catalog: str = "auto"
    goals: str = "human"
    products: int | None = None
    seed: int = 0
    nouns: str = nouns.AUTO
    shown: int = pages.RESULTS_PER_PAGE
    attributes: bool = False

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Options:
        """Check plain data. Raises :class:`EnvironmentConfigurationError` that names the option."""
        check_names("WebShop", options, [field.name for field in fields(cls)])
        for name, value in options.items():
            match name:
                case "catalog" | "goals":
                    _check_choice(name, value, CATALOGS if name == "catalog" else goals.KINDS)
                case "nouns":
                    if not isinstance(value, str) or not value:
                        raise _wrong(name, "auto, rule or the name of a pipeline of spaCy's", value)
                case "attributes":
                    if not isinstance(value, bool):
                        raise _wrong(name, "true or false", value)
                case "products" if value is None:
                    pass
                case _:
                    most = pages.RESULTS_PER_PAGE if name == "shown" else None
                    _check_whole_number(name, value, 0 if name == "seed" else 1, most)
        return cls(**options)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise _wrong(name, f"{', '.join(choices[:-1])} or {choices[-1]}", value)


def _check_whole_number(name: str, value: Any, least: int, most: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        raise _wrong(name, f"a whole number from {least}" + (f" to {most}" if most is not None else ""), value)


def _wrong(name: str, right: str, value: Any) -> EnvironmentConfigurationError:
    return EnvironmentConfigurationError(f"WebShop's option {name} is {right}, not {value!r}")
