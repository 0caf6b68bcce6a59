"""Search: Lucene's analysis of English, Lucene's ranking."""

from __future__ import annotations

import random
from pathlib import Path

import bm25s
import numpy as np
import pytest

from distillery_webshop import search
from distillery_webshop.analysis import STOP_WORDS, to_terms
from distillery_webshop.search import Index, IndexBuilder, to_lucene_length


def index(folder: Path, *documents: str) -> Index:
    builder = IndexBuilder()
    for document in documents:
        builder.add(document)
    folder.mkdir(exist_ok=True)
    builder.build(folder)
    return Index(folder)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("running shoes for the women's gym", ["run", "shoe", "women", "gym"]),
        ("size 10.5, 1,000 mm", ["size", "10.5", "1,000", "mm"]),
        ("usb-c cable/cord", ["usb", "c", "cabl", "cord"]),
        ("o'neill’s u.s.a.", ["o'neil", "u.s.a"]),
        ("to be or not", []),
    ],
)
def test_words_are_split_as_by_lucene(text: str, found: list[str]) -> None:
    assert to_terms(text) == found


def test_stop_words_equal_those_of_lucene() -> None:
    assert len(STOP_WORDS) == 33


@pytest.mark.parametrize(
    ("length", "kept"),
    [(0, 0), (39, 39), (40, 40), (41, 40), (42, 42), (133, 128), (1000, 984), (100_000, 98_328)],
)
def test_length_is_rounded_to_a_byte(length: int, kept: int) -> None:
    assert to_lucene_length(length) == kept


def test_rarer_words_and_shorter_documents_rank_first(tmp_path: Path) -> None:
    found = index(tmp_path, "red shoe", "red lamp", "red lamp with a long and heavy shade of oak", "blue sofa")
    assert found.search("red lamp") == [1, 2, 0]


def test_search_returns_only_matches(tmp_path: Path) -> None:
    found = index(tmp_path, "red shoe", "blue sofa")
    assert found.search("Sofas") == [1]
    assert found.search("unheard of") == []
    assert found.search("the") == []


def test_equal_scores_keep_the_order_of_the_catalog(tmp_path: Path) -> None:
    assert index(tmp_path, *["red shoe"] * 60, "blue sofa").search("shoe") == list(range(50))


def test_documents_can_be_empty(tmp_path: Path) -> None:
    assert index(tmp_path, "", "red shoe").search("shoe") == [1]


def test_index_can_be_empty(tmp_path: Path) -> None:
    assert index(tmp_path).search("shoe") == []


def test_block_size_changes_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [f"common word{number % 7} word{number % 5} word{number % 5}" for number in range(100)]
    at_once = index(tmp_path / "once", *documents)
    monkeypatch.setattr(search, "_BLOCK", 3)
    in_blocks = index(tmp_path / "blocks", *documents)
    for query in ("common", "word3", "word6 word1"):
        assert in_blocks.search(query) == at_once.search(query) != []


def test_best_documents_are_found_at_any_position(tmp_path: Path) -> None:
    documents = ["lamp " + "shade " * (number * 37 % 97) for number in range(4000)]
    found = index(tmp_path, *documents).search("lamp")
    shortest = sorted(range(4000), key=lambda number: (to_lucene_length(1 + number * 37 % 97), number))
    assert found == shortest[:50]


WORDS = [f"w{number}" for number in range(60)]
"""Word n is in one of n + 1 documents: the first in all, the last in some seventy."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 4,000 documents in which words come up to four times."""
    rng = random.Random(0)
    documents = [
        " ".join(
            word for place, word in enumerate(WORDS) if rng.random() < 1 / (place + 1) for _ in range(rng.randint(1, 4))
        )
        for _ in range(4000)
    ]
    folder = tmp_path_factory.mktemp("many")
    index(folder, *documents)
    return folder


def exhaustive(folder: Path, query: str) -> list[int]:
    """The results when all documents are scored by all words, by bm25s."""
    found, scorer = Index(folder), bm25s.BM25.load(folder, load_vocab=False)
    order = sorted({*WORDS}, key=str.encode)
    assert len(found._terms) == len(order)
    scores = scorer.get_scores_from_ids([order.index(word) for word in query.split()])
    best = np.argsort(-scores, kind="stable")[: search.RESULTS]
    return best[scores[best] > 0].tolist()


@pytest.mark.parametrize("look_up", [0, 2, 20, 10**9], ids=lambda cost: f"look_up_costs_{cost}")
def test_deferred_words_change_no_result(look_up: int, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_LOOK_UP", look_up)
    rng, found = random.Random(1), Index(many)
    for _ in range(150):
        query = " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))  # some words twice
        assert found.search(query) == exhaustive(many, query), query


def test_common_words_are_looked_up_for_few_documents(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[int] = []
    get_scores = search.Postings.get_scores
    monkeypatch.setattr(
        search.Postings,
        "get_scores",
        lambda self, documents: looked_up.append(len(documents)) or get_scores(self, documents),
    )
    assert Index(many).search("w0 w1 w2 w40 w41 w42")
    assert len(looked_up) > 6  # of the six words once each, in the end, and some before
    assert max(looked_up) < 400


def test_rare_word_decides_when_few_documents_have_it(tmp_path: Path) -> None:
    documents = ["lamp shade", *["lamp"] * 3000, "lamp oak", *["lamp shade"] * 40]
    assert index(tmp_path, *documents).search("oak lamp shade")[:2] == [3001, 0]
