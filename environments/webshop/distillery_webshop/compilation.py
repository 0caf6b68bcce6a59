"""The compilation of a catalog's three files to a shop: complete or absent, in 1 kB of memory a product.

In the environment's folder::

    generated/    our own products, in the format of WebShop's files: the original can read them too
    shop/         the compiled shop; its shop.json says which one it is

1.18 million generated products take 8 minutes and 1.2 GB of memory; see benchmarks/webshop_engine.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import shutil
from array import array
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from distillery.environments.base import EnvironmentConfigurationError
from distillery_webshop import compiled_shop, jsonstream
from distillery_webshop.datafiles import DataFiles
from distillery_webshop.goals import Goal, make_human_goals, make_synthetic_goals, shuffle_goals
from distillery_webshop.products import Product, read_product
from distillery_webshop.records import RecordsWriter

SHOP = "shop"

_MARKER = "shop.json"
_UNFINISHED = "unfinished"
_VERSION = 1  # of the compiled files


@dataclass(frozen=True, slots=True)
class Recipe:
    """The inputs that decide the shop, next to the files.

    Attributes:
        catalog: ``webshop`` or ``generated``.
        generator: the version of the generator; 0 for WebShop's own products.
        products: how many were asked for; None for all, or for as many as the tasks need.
        goals: ``human`` or ``synthetic``.
        seed: of the generator, prices and limits.
        nouns: the full name of the tagger that purchases are scored with.
        version: of the compiled files.
    """

    catalog: str
    generator: int
    products: int | None
    goals: str
    seed: int
    nouns: str
    version: int = _VERSION


@dataclass(frozen=True, slots=True)
class Marker:
    """The description of the shop in a folder."""

    recipe: Recipe
    products: int
    goals: int

    def __str__(self) -> str:
        """Return the text that is printed next to every number."""
        recipe = self.recipe
        what = "WebShop" if recipe.catalog == "webshop" else f"generated shop v{recipe.generator}"
        return f"{what} ({self.products:,} products, {recipe.goals} goals, seed {recipe.seed}, nouns by {recipe.nouns})"


def read_marker(folder: Path) -> Marker | None:
    """Return the marker of the shop in a folder; None if no compilation was completed there."""
    try:
        content = json.loads((folder / SHOP / _MARKER).read_text())
    except FileNotFoundError:
        return None
    if content["recipe"]["version"] != _VERSION:
        raise EnvironmentConfigurationError(f"{folder} was made by another release: remove it and prepare again")
    return Marker(Recipe(**content["recipe"]), content["products"], content["goals"])


def compile_shop(folder: Path, files: DataFiles, recipe: Recipe, *, progress: jsonstream.Progress) -> Marker:
    """Write the shop; an existing one is replaced.

    Args:
        folder: the environment's.
        files: the catalog.
        recipe: the shop to make of it.
        progress: called with the number of bytes of the products' file that were read; an exception that it raises
            ends the work.

    Raises:
        EnvironmentConfigurationError: a file isn't one of WebShop's; the message names it.
    """
    unfinished = folder / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        products, goals = _write_shop(unfinished, files, recipe, progress)
    except jsonstream.MalformedFileError as error:
        raise EnvironmentConfigurationError(str(error)) from error
    marker = Marker(recipe, products, goals)
    (unfinished / _MARKER).write_text(json.dumps(asdict(marker), indent=1) + "\n")
    shutil.rmtree(folder / SHOP, ignore_errors=True)
    unfinished.rename(folder / SHOP)
    return marker


@contextlib.contextmanager
def lock_folder(folder: Path) -> Generator[None, None, None]:
    """Hold the lock that allows one preparation of a folder at a time. The kernel frees it if the process is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_shop(folder: Path, files: DataFiles, recipe: Recipe, progress: jsonstream.Progress) -> tuple[int, int]:
    """Write the compiled files, without the marker; return how many products and goals there are."""
    index = compiled_shop.import_search().IndexBuilder()
    products = goals = 0
    with (
        RecordsWriter(folder, compiled_shop.LISTINGS) as listings,
        RecordsWriter(folder, compiled_shop.PRODUCTS) as others,
        RecordsWriter(folder, compiled_shop.GOALS) as goal_records,
    ):
        for product, goals_of_product in _read_products(files, recipe, progress):
            listing, other = product.to_records()
            listings.append(listing)
            others.append(other)
            index.add(product.to_document())
            for goal in goals_of_product:
                goal_records.append(goal.to_record())
                goals += 1
            products += 1
    with (folder / compiled_shop.ORDER).open("wb") as order:
        array("q", shuffle_goals(goals)).tofile(order)
    (folder / compiled_shop.INDEX).mkdir()
    index.build(folder / compiled_shop.INDEX)
    return products, goals


def _read_products(
    files: DataFiles, recipe: Recipe, progress: jsonstream.Progress
) -> Iterator[tuple[Product, list[Goal]]]:
    """Yield the products, each once, with the goals that are made for it."""
    attributes = files.read_attributes()
    instructions = files.read_instructions() if recipe.goals == "human" else {}
    asins: set[str] = set()
    for number, raw in enumerate(
        itertools.islice(jsonstream.read_elements(files.products, progress=progress), recipe.products)
    ):
        try:
            entry = json.loads(attributes.get(raw["asin"], b"{}"))
            product = read_product(raw, entry.get("attributes"), recipe.seed)
            if product is None or product.asin in asins:
                continue
            position = len(asins)
            asins.add(product.asin)
            if recipe.goals == "human":
                goals_of_product = list(
                    make_human_goals(position, product, instructions.get(product.asin, ()), recipe.seed)
                )
            else:
                goals_of_product = list(make_synthetic_goals(position, product, entry, recipe.seed))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EnvironmentConfigurationError(
                f"entry {number} of {files.products} isn't a product as WebShop writes them: {error!r}"
            ) from error
        yield product, goals_of_product
