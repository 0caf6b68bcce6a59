"""The WebShop plug-in: shopping by instruction, among WebShop's own products or generated ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from distillery.environments.base import EnvironmentConfigurationError, Example, Fact, Report, Task
from distillery_webshop import compilation, datafiles, facts, generator, goals, nouns, pages, prompts
from distillery_webshop.compilation import Marker, Recipe
from distillery_webshop.compiled_shop import CompiledShop, Goals
from distillery_webshop.datafiles import DataFiles
from distillery_webshop.options import Options
from distillery_webshop.session import WebShopSession

_GENERATED = "generated"
_GENERATING = 0.3  # of the time, where products are generated


class WebShop:
    """Shopping by instruction. See :class:`distillery.environments.base.Environment`."""

    name: ClassVar[str] = "webshop"
    verbs: ClassVar[tuple[str, ...]] = prompts.VERBS
    state_keys: ClassVar[tuple[str, ...]] = prompts.STATE_KEYS
    placeholders: ClassVar[tuple[str, ...]] = prompts.PLACEHOLDERS
    thoughts: ClassVar[bool] = False
    held_out_split: ClassVar[str] = "test"
    goal_is_task: bool = True
    instructions: str

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        """Choose the products by the options and ``$WEBSHOP_DATA``.

        What was compiled into the folder needs the variable no more.
        """
        self._options = Options.parse(options)
        self._folder = folder
        self.instructions = prompts.format_instructions(None)
        marker = compilation.read_marker(folder)
        self._recipe = self._choose_recipe(marker.recipe if marker else None)
        if marker and marker.recipe != self._recipe:
            raise EnvironmentConfigurationError(
                f"{folder} holds {marker}, and the options ask for another: choose another folder or remove this one"
            )
        if self._recipe.catalog == "webshop" and not marker:
            datafiles.find_files(self._options.products)

    @property
    def source(self) -> str:
        """``WebShop`` or a generated shop, with what else decides the numbers; the tagger that scores is among it."""
        marker = compilation.read_marker(self._folder)
        return str(marker) if marker else f"{self._recipe.catalog} products, not prepared"

    def limit_steps(self, number: int) -> None:
        """State in the instructions how many commands an episode may have."""
        self.instructions = prompts.format_instructions(number)

    def splits(self) -> Mapping[str, int | None]:
        """Return the original's splits; how many goals they have is known once the shop is compiled."""
        return dict.fromkeys(goals.split_goals(0))

    def prepare(self, wanted: Mapping[str, int], *, report: Report = lambda done, total: None) -> None:
        """Generate products where WebShop's own aren't wanted; then compile the shop that the worker processes share.

        Without the option ``products``, enough are generated for ``wanted``. A shop that suffices stays.
        """
        if unknown := sorted(wanted.keys() - goals.split_goals(0).keys()):
            raise EnvironmentConfigurationError(_format_missing_split(unknown[0], self.source))
        with compilation.lock_folder(self._folder):
            if self._suffices(compilation.read_marker(self._folder), wanted):
                return
            total = max(1, sum(wanted.values()))

            def progress(share: float) -> None:
                report(min(total - 1, int(share * total)), total)

            begun = 0.0
            if self._recipe.catalog == _GENERATED:
                files, begun = DataFiles.in_folder(self._folder / _GENERATED), _GENERATING
                number = self._recipe.products or generator.count_products(wanted)
                generator.write_catalog(
                    files, self._recipe.seed, number, progress=lambda share: progress(share * begun)
                )
            else:
                files = datafiles.find_files(self._recipe.products)
            size = max(1, files.products.stat().st_size)
            compilation.compile_shop(
                self._folder,
                files,
                self._recipe,
                progress=lambda read: progress(begun + (1 - begun) * read / size),
            )
            report(total, total)

    def catalog(self, split: str) -> Sequence[Task]:
        """Return the goals of a split, in the original's order; a task's id begins with the original's session name."""
        all_goals = Goals(self._prepared)
        if split not in (splits := goals.split_goals(len(all_goals))):
            raise EnvironmentConfigurationError(_format_missing_split(split, self.source))
        return [
            Task(f"fixed_{number}_{goal.asin}", split, goal.category, goal.instruction)
            for number in splits[split]
            for goal in [all_goals[number]]
        ]

    def labels(self, task: Task) -> Sequence[str]:
        """Return no labels but the category, which is the type of product."""
        return ()

    def load(self) -> None:
        """Do nothing: the shop is mapped into memory."""

    def open(self, task: Task) -> WebShopSession:
        """Open a session for one goal. bm25s is loaded at its first search.

        Raises:
            EnvironmentConfigurationError: the shop isn't there.
            LookupError: the task isn't one of this shop's.
        """
        shop, number = self._shop, int(task.id.split("_")[1])
        if number >= len(shop.goals) or shop.goals[number].asin != task.id.split("_")[2]:
            raise LookupError(f"the task {task.id} isn't one of {self.source}")
        return WebShopSession(shop, number, shown=self._options.shown, attributes=self._options.attributes)

    def examples(self, category: str) -> Sequence[Example]:
        """Return two worked examples of each category; none of a category that isn't WebShop's."""
        return prompts.read_examples(self._options.shown).get(category, ())

    def goal(self, opening: str) -> str:
        """Return the instruction."""
        _, found, after = opening.partition(f"{pages.INSTRUCTION}{pages.SEPARATOR}")
        return after.split(pages.SEPARATOR)[0].strip() if found else ""

    def read(self, opening: str, turns: Sequence[tuple[str, str]]) -> list[Fact]:
        """Return the facts that an episode shows; see :func:`distillery_webshop.facts.read`."""
        return facts.read_facts(opening, turns)

    def _choose_recipe(self, made: Recipe | None) -> Recipe:
        """Return the recipe of the options; what they leave open is as it was ``made``, else as it can be here."""
        options = self._options
        catalog, tagger = options.catalog, options.nouns
        if catalog == "auto":
            here = "webshop" if os.environ.get(datafiles.VARIABLE) else _GENERATED
            catalog = made.catalog if made else here
        return Recipe(
            catalog=catalog,
            generator=generator.VERSION if catalog == _GENERATED else 0,
            products=options.products,
            goals=options.goals,
            seed=options.seed,
            nouns=made.nouns if made and tagger in (nouns.AUTO, made.nouns.split()[0]) else nouns.choose_tagger(tagger),
        )

    def _suffices(self, marker: Marker | None, wanted: Mapping[str, int]) -> bool:
        if marker is None or self._recipe.catalog != _GENERATED or self._recipe.products:
            return marker is not None
        there = goals.split_goals(marker.goals)
        return all(len(there[split]) >= number for split, number in wanted.items())

    @property
    def _prepared(self) -> Path:
        if compilation.read_marker(self._folder) is None:
            raise EnvironmentConfigurationError(f"there is no whole shop in {self._folder}: run prepare again")
        return self._folder / compilation.SHOP

    @cached_property
    def _shop(self) -> CompiledShop:
        return CompiledShop(self._prepared, self._recipe.nouns)


def _format_missing_split(split: str, source: str) -> str:
    return f"there is no split {split!r} of {source}; there are {', '.join(goals.split_goals(0))}"
