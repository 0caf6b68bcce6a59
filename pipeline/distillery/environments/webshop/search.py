"""Search: BM25 by bm25s, ranked as Lucene ranks (k1 0.9, b 0.4, pyserini's defaults).

bm25s scores, and maps the index into memory. The scores are computed here, in place of its ``build_index_from_ids``,
which its documentation leaves to users who want it, for two reasons: Lucene keeps the length of a document in one byte,
which decides one in two hundred of the first ten results; and bm25s's own way takes 10 kB of memory a product, so 12 GB
for the full catalogue, and this one 1.

In the index's folder: bm25s's own files, and the terms as records, sorted, so that no process holds a dictionary.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bm25s
import numpy as np

from distillery.environments.webshop import analysis
from distillery.environments.webshop.records import Records, RecordsWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray

K1, B = 0.9, 0.4
RESULTS = 50

_TERMS = "terms"
_BLOCK = 1 << 14  # documents whose terms are counted at once
_GROUP = 64  # documents of which the best is found first: sorting out a million scores takes as long as adding them up


class Index:
    """A compiled index."""

    def __init__(self, folder: Path) -> None:
        """Map what :func:`build` wrote."""
        self._bm25 = bm25s.BM25.load(folder, mmap=True, load_vocab=False)
        self._terms = Records(folder, _TERMS)

    def search(self, query: str) -> list[int]:
        """The numbers of the products that match a query, best first, at most 50; of equals the lower number first."""
        numbers = [number for term in analysis.terms(query.lower()) if (number := self._number(term)) is not None]
        if not numbers:
            return []
        scores: NDArray[np.float32] = self._bm25.get_scores_from_ids(numbers)
        found = np.flatnonzero(scores >= least) if (least := _bound(scores)) else np.flatnonzero(scores)
        return found[np.argsort(-scores[found], kind="stable")][:RESULTS].tolist()

    def _number(self, term: str) -> int | None:
        key = term.encode()
        place = bisect.bisect_left(self._terms, key)
        return place if place < len(self._terms) and self._terms[place] == key else None


class IndexBuilder:
    """Takes documents one by one; 4 bytes of memory a word."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._number_of_word: dict[str, int] = {}
        self._words = array("i")
        self._ends = array("q", [0])

    def add(self, document: str) -> None:
        """Index the next product's document, which is in lower case."""
        numbers = self._number_of_word
        for word in analysis.words(document):
            number = numbers.get(word)
            if number is None:
                term = analysis.term(word)
                number = numbers[word] = self._numbers.setdefault(term, len(self._numbers)) if term else -1
            if number >= 0:
                self._words.append(number)
        self._ends.append(len(self._words))

    def build(self, folder: Path) -> None:
        """Write the index of all documents."""
        ordered = sorted(self._numbers, key=str.encode)
        with RecordsWriter(folder, _TERMS) as writer:
            for term in ordered:
                writer.append(term.encode())
        places = np.empty(len(ordered), dtype=np.int32)
        places[[self._numbers[term] for term in ordered]] = np.arange(len(ordered), dtype=np.int32)
        self._numbers.clear()
        self._number_of_word.clear()
        words = places[np.frombuffer(self._words, dtype=np.int32)] if self._words else np.empty(0, dtype=np.int32)
        self._words = array("i")
        index = bm25s.BM25(k1=K1, b=B, method="lucene")
        index.scores = _scores(words, np.frombuffer(self._ends, dtype=np.int64), len(ordered))
        index.nonoccurrence_array = None  # which other methods than Lucene's have
        index.vocab_dict = {}
        index.save(folder, show_progress=False)


def lucene_length(length: int) -> int:
    """A document's length as Lucene remembers it, in one byte: exact up to 40, then by four significant bits.

    (``SmallFloat.intToByte4`` and back.)
    """
    exact = 255 - _four_bits(2**31 - 1)
    return length if length < exact else exact + _from_four_bits(_four_bits(length - exact))


def _bound(scores: NDArray[np.float32]) -> float:
    """A score that the last result can't be below, or 0: the best of each group, and of these the fiftieth."""
    groups = len(scores) // _GROUP
    if groups < RESULTS:
        return 0.0
    best = scores[: groups * _GROUP].reshape(groups, _GROUP).max(axis=1)
    return float(np.partition(best, -RESULTS)[-RESULTS])


def _four_bits(number: int) -> int:
    """A number as a float of a byte: three bits of mantissa after the first, and how far it is shifted."""
    shift = number.bit_length() - 4
    return number if shift < 0 else (number >> shift) & 7 | (shift + 1) << 3


def _from_four_bits(encoded: int) -> int:
    shift = (encoded >> 3) - 1
    return encoded & 7 if shift < 0 else (encoded & 7 | 8) << shift


def _scores(words: NDArray[np.int32], ends: NDArray[np.int64], terms: int) -> dict[str, Any]:
    """The scores of all (document, term) in bm25s's layout: by term, and within a term by document."""
    lengths = np.diff(ends)
    documents = len(lengths)
    frequencies = np.zeros(terms, dtype=np.int64)
    for _, found, _ in _counted(words, ends):
        frequencies += np.bincount(found, minlength=terms)
    starts = np.concatenate([[0], np.cumsum(frequencies)])
    data = np.empty(starts[-1], dtype=np.float32)
    indices = np.empty(starts[-1], dtype=np.int32)
    rarity = np.log1p((documents - frequencies + 0.5) / (frequencies + 0.5))
    average = len(words) / documents if documents else 1.0
    kept = np.array([lucene_length(length) for length in range(int(lengths.max(initial=0)) + 1)], dtype=np.float64)
    damping = K1 * (1 - B + B * kept[lengths] / (average or 1.0))
    free = starts[:-1].copy()
    for document, term, count in _counted(words, ends):
        place = free[term] + np.arange(len(term)) - np.searchsorted(term, term)
        data[place] = rarity[term] * (count / (count + damping[document]))
        indices[place] = document
        free += np.bincount(term, minlength=terms)
    return {"data": data, "indices": indices, "indptr": starts, "num_docs": documents}


def _counted(
    words: NDArray[np.int32], ends: NDArray[np.int64]
) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Block by block: document, term and how often it is there, sorted by term and then by document."""
    for first in range(0, len(ends) - 1, _BLOCK):
        block = ends[first : first + _BLOCK + 1]
        documents = np.repeat(np.arange(len(block) - 1), np.diff(block))
        keys = words[block[0] : block[-1]].astype(np.int64) * _BLOCK + documents
        found, counts = np.unique(keys, return_counts=True)
        yield found % _BLOCK + first, found // _BLOCK, counts
