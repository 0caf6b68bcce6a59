"""On WebShop's own thousand products: search as Lucene, goals as the original makes them.

The files are texts of shop pages and aren't kept here; see :data:`REAL_SHOP`.
"""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path

import pytest

from distillery_webshop.environment import WebShop

REAL_SHOP = "DISTILLERY_TEST_WEBSHOP_DATA"


@pytest.fixture(scope="module")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, unpacked."""
    if not (named := os.environ.get(REAL_SHOP)):
        pytest.skip(
            f"needs WebShop's first 1,000 products: set {REAL_SHOP} to a folder with items_shuffle_1000.json, "
            "items_ins_v2_1000.json, items_human_ins_1000.json, indexed_documents.jsonl and lucene_top50.jsonl "
            "(or these with .xz)"
        )
    folder = tmp_path_factory.mktemp("data")
    for file in Path(named).iterdir():
        content = lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()
        (folder / file.name.removesuffix(".xz")).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def shop(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> WebShop:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEBSHOP_DATA", str(real_data))
        environment = WebShop({"goals": "synthetic", "nouns": "rule"}, tmp_path_factory.mktemp("shop"))
        environment.prepare({})
        return environment


def test_documents_equal_those_that_lucene_indexed(real_data: Path, shop: WebShop) -> None:
    lines = (real_data / "indexed_documents.jsonl").read_text().splitlines()
    indexed = {entry["id"]: entry["contents"] for entry in map(json.loads, lines)}
    products = [shop._shop.read_product(number) for number in range(len(indexed))]
    assert {product.asin: product.to_document() for product in products} == indexed


def test_first_ten_results_equal_those_of_lucene(real_data: Path, shop: WebShop) -> None:
    queries = [json.loads(line) for line in (real_data / "lucene_top50.jsonl").read_text().splitlines()]
    overlaps = []
    for query in queries:
        found = {shop._shop.read_listing(number).asin for number in shop._shop.search(query["query"])[:10]}
        overlaps.append(len(found & set(query["asins"][:10])) / len(query["asins"][:10]))
    assert sum(overlaps) / len(queries) >= 0.99


def test_goals_are_as_many_as_the_originals(shop: WebShop) -> None:
    assert [len(shop.catalog(split)) for split in ("test", "dev", "train")] == [500, 1000, 5410]


def test_human_instructions_are_not_changed(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSHOP_DATA", str(real_data))
    environment = WebShop({}, tmp_path)
    environment.prepare({})
    goals = [task.goal for split in ("test", "dev", "train") for task in environment.catalog(split)]
    assert len(goals) == 13
    assert any(goal.startswith("i need a 120 ml hair mask treatment, and price lower than ") for goal in goals)
