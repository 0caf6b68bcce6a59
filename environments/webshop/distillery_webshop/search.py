"""Search: BM25 by bm25s, ranked as Lucene ranks (k1 0.9, b 0.4, pyserini's defaults).

bm25s keeps the index, and maps it into memory. The scores in it are computed here, in place of its
``build_index_from_ids``, which its documentation leaves to users who want it, for two reasons: Lucene keeps the length
of a document in one byte, which decides one in two hundred of the first ten results; and bm25s's own way takes 10 kB of
memory a product, so 12 GB for the full catalog, and this one 1.

They are added up here too: most of the time would go into words that most documents have and that decide little. So
these are left for last, and looked up only for the documents that could still be among the best (MaxScore: Turtle &
Flood, 1995). The results are bm25s's, to the last bit of their scores.

In the index's folder: bm25s's own files, and the terms as records, sorted, so that no process holds a dictionary.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bm25s
import numpy as np

from distillery_webshop import analysis
from distillery_webshop.records import Records, RecordsWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray

K1, B = 0.9, 0.4
RESULTS = 50

_TERMS = "terms"
_BLOCK = 1 << 14  # documents whose terms are counted at once
_GROUP = 64  # documents of which the best is found first: sorting out a million scores takes as long as adding them up
_MANY = 1 / 8  # of all documents; a word in fewer is not worth finding out who could do without
_LOOK_UP = 20  # times as long as adding one document's score
_ROUNDING = 2**-21  # of the highest score, for each word: more than adding up in another order changes


@dataclass(frozen=True, slots=True)
class Postings:
    """The documents that contain a term.

    Attributes:
        documents: in ascending order.
        scores: the term's contribution to the score of each.
        max_score: the highest of these.
    """

    documents: NDArray[np.int32]
    scores: NDArray[np.float32]
    max_score: float

    def get_scores(self, documents: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the term's contribution to some documents; 0 to those without it."""
        places = np.searchsorted(self.documents, documents.astype(np.int32))
        places[places == len(self.documents)] = 0
        return np.where(self.documents[places] == documents, self.scores[places], np.float32(0))


class Index:
    """A compiled index."""

    def __init__(self, folder: Path) -> None:
        """Map what :func:`build` wrote."""
        scores: dict[str, Any] = bm25s.BM25.load(folder, mmap=True, load_vocab=False).scores
        self._documents: int = scores["num_docs"]
        self._scores = {name: np.asarray(scores[name]) for name in ("data", "indices", "indptr")}
        self._terms = Records(folder, _TERMS)
        self._postings = lru_cache(maxsize=1 << 14)(self._find_postings)

    def search(self, query: str) -> list[int]:
        """Return the numbers of up to 50 products that match a query, best first; among equals the lower number."""
        postings = [entry for term in analysis.to_terms(query.lower()) if (entry := self._postings(term))]
        if not postings:
            return []
        contenders = self._find_contenders(sorted(postings, key=lambda term: len(term.documents)))
        scores = _add_scores(postings, contenders)
        return contenders[np.argsort(-scores, kind="stable")][:RESULTS].tolist()

    def _find_contenders(self, rarest_first: Sequence[Postings]) -> NDArray[np.intp]:
        """Documents, in ascending order, with all that are among the best: as a rule not many more."""
        left = highest = sum(term.max_score for term in rarest_first)
        slack = _ROUNDING * highest * (len(rarest_first) + 1)
        scores = np.zeros(self._documents, dtype=np.float32)
        # any fifty documents' scores are a bound of the last result's, and the highest are among a rare word's
        likely = next((term.documents for term in rarest_first if len(term.documents) >= RESULTS), None)
        later: Sequence[Postings] = ()
        contenders = None
        for place, term in enumerate(rarest_first):
            if likely is not None and len(term.documents) > _MANY * self._documents and left < highest / 2:
                contenders = np.flatnonzero(scores >= _find_fiftieth(scores[likely]) - left - slack)
                if len(contenders) * _LOOK_UP <= len(term.documents):
                    later = rarest_first[place:]
                    break
            np.add.at(scores, term.documents, term.scores)
            left -= term.max_score
        if contenders is None or not later:
            bound = _find_bound(scores)
            return np.flatnonzero(scores >= bound - slack) if bound else np.flatnonzero(scores)
        scores = scores[contenders]
        for term in later:
            scores += term.get_scores(contenders)
            left -= term.max_score
            still = scores >= _find_fiftieth(scores) - left - slack
            contenders, scores = contenders[still], scores[still]
        return contenders

    def _find_postings(self, term: str) -> Postings | None:
        key = term.encode()
        number = bisect.bisect_left(self._terms, key)
        if number == len(self._terms) or self._terms[number] != key:
            return None
        begin, end = self._scores["indptr"][number : number + 2]
        scores = self._scores["data"][begin:end]
        return Postings(self._scores["indices"][begin:end], scores, float(scores.max()))


class IndexBuilder:
    """A builder that takes documents one by one; 4 bytes of memory a word."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._number_of_word: dict[str, int] = {}
        self._words = array("i")
        self._ends = array("q", [0])

    def add(self, document: str) -> None:
        """Index the next product's document, which is in lower case."""
        numbers = self._number_of_word
        for word in analysis.split_words(document):
            number = numbers.get(word)
            if number is None:
                term = analysis.to_term(word)
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
        index.scores = _compute_scores(words, np.frombuffer(self._ends, dtype=np.int64), len(ordered))
        index.nonoccurrence_array = None  # which other methods than Lucene's have
        index.vocab_dict = {}
        index.save(folder, show_progress=False)


def to_lucene_length(length: int) -> int:
    """Return a document's length as Lucene stores it, in one byte: exact up to 40, then by four significant bits.

    (``SmallFloat.intToByte4`` and back.)
    """
    exact = 255 - _encode_four_bits(2**31 - 1)
    return length if length < exact else exact + _decode_four_bits(_encode_four_bits(length - exact))


def _add_scores(postings: Iterable[Postings], documents: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the documents' scores by these words, added up in their order as bm25s does."""
    scores = np.zeros(len(documents), dtype=np.float32)
    for term in postings:
        scores += term.get_scores(documents)
    return scores


def _find_fiftieth(scores: NDArray[np.float32]) -> float:
    """Return the lowest of the fifty highest."""
    return float(np.partition(scores, -RESULTS)[-RESULTS])


def _find_bound(scores: NDArray[np.float32]) -> float:
    """Return a score that the last result can't be below, or 0: the best of each group, and of these the fiftieth."""
    groups = len(scores) // _GROUP
    if groups < RESULTS:
        return 0.0
    best = scores[: groups * _GROUP].reshape(groups, _GROUP).max(axis=1)
    return _find_fiftieth(best)


def _encode_four_bits(number: int) -> int:
    """Encode a number as a float of a byte: three bits of mantissa after the first, and how far it is shifted."""
    shift = number.bit_length() - 4
    return number if shift < 0 else (number >> shift) & 7 | (shift + 1) << 3


def _decode_four_bits(encoded: int) -> int:
    shift = (encoded >> 3) - 1
    return encoded & 7 if shift < 0 else (encoded & 7 | 8) << shift


def _compute_scores(words: NDArray[np.int32], ends: NDArray[np.int64], terms: int) -> dict[str, Any]:
    """Compute the scores of all (document, term) in bm25s's layout: by term, and within a term by document."""
    lengths = np.diff(ends)
    documents = len(lengths)
    frequencies = np.zeros(terms, dtype=np.int64)
    for _, found, _ in _count_terms(words, ends):
        frequencies += np.bincount(found, minlength=terms)
    starts = np.concatenate([[0], np.cumsum(frequencies)])
    data = np.empty(starts[-1], dtype=np.float32)
    indices = np.empty(starts[-1], dtype=np.int32)
    rarity = np.log1p((documents - frequencies + 0.5) / (frequencies + 0.5))
    average = len(words) / documents if documents else 1.0
    kept = np.array([to_lucene_length(length) for length in range(int(lengths.max(initial=0)) + 1)], dtype=np.float64)
    damping = K1 * (1 - B + B * kept[lengths] / (average or 1.0))
    free = starts[:-1].copy()
    for document, term, count in _count_terms(words, ends):
        place = free[term] + np.arange(len(term)) - np.searchsorted(term, term)
        data[place] = rarity[term] * (count / (count + damping[document]))
        indices[place] = document
        free += np.bincount(term, minlength=terms)
    return {"data": data, "indices": indices, "indptr": starts, "num_docs": documents}


def _count_terms(
    words: NDArray[np.int32], ends: NDArray[np.int64]
) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Block by block: document, term and how often it is there, sorted by term and then by document."""
    for first in range(0, len(ends) - 1, _BLOCK):
        block = ends[first : first + _BLOCK + 1]
        documents = np.repeat(np.arange(len(block) - 1), np.diff(block))
        keys = words[block[0] : block[-1]].astype(np.int64) * _BLOCK + documents
        found, counts = np.unique(keys, return_counts=True)
        yield found % _BLOCK + first, found // _BLOCK, counts
