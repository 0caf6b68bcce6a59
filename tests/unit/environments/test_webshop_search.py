"""Search: Lucene's analysis of English, Lucene's ranking."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillery.environments.webshop import search
from distillery.environments.webshop.analysis import STOP_WORDS, terms
from distillery.environments.webshop.search import Index, IndexBuilder, lucene_length


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
def test_a_text_is_cut_as_lucene_cuts_it(text: str, found: list[str]) -> None:
    assert terms(text) == found


def test_there_are_lucenes_33_stop_words() -> None:
    assert len(STOP_WORDS) == 33


@pytest.mark.parametrize(
    ("length", "kept"),
    [(0, 0), (39, 39), (40, 40), (41, 40), (42, 42), (133, 128), (1000, 984), (100_000, 98_328)],
)
def test_lengths_are_kept_in_a_byte(length: int, kept: int) -> None:
    assert lucene_length(length) == kept


def test_rarer_words_and_shorter_documents_come_first(tmp_path: Path) -> None:
    found = index(tmp_path, "red shoe", "red lamp", "red lamp with a long and heavy shade of oak", "blue sofa")
    assert found.search("red lamp") == [1, 2, 0]


def test_what_does_not_match_is_not_found(tmp_path: Path) -> None:
    found = index(tmp_path, "red shoe", "blue sofa")
    assert found.search("Sofas") == [1]
    assert found.search("unheard of") == []
    assert found.search("the") == []


def test_equals_come_in_the_order_of_the_catalogue(tmp_path: Path) -> None:
    assert index(tmp_path, *["red shoe"] * 60, "blue sofa").search("shoe") == list(range(50))


def test_documents_may_be_empty(tmp_path: Path) -> None:
    assert index(tmp_path, "", "red shoe").search("shoe") == [1]


def test_an_index_may_be_empty(tmp_path: Path) -> None:
    assert index(tmp_path).search("shoe") == []


def test_documents_are_counted_in_blocks_as_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [f"common word{number % 7} word{number % 5} word{number % 5}" for number in range(100)]
    at_once = index(tmp_path / "once", *documents)
    monkeypatch.setattr(search, "_BLOCK", 3)
    in_blocks = index(tmp_path / "blocks", *documents)
    for query in ("common", "word3", "word6 word1"):
        assert in_blocks.search(query) == at_once.search(query) != []


def test_the_best_of_many_documents_are_found_wherever_they_stand(tmp_path: Path) -> None:
    documents = ["lamp " + "shade " * (number * 37 % 97) for number in range(4000)]
    found = index(tmp_path, *documents).search("lamp")
    shortest = sorted(range(4000), key=lambda number: (lucene_length(1 + number * 37 % 97), number))
    assert found == shortest[:50]
