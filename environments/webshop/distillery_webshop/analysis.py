"""Lucene's analysis of English text, as pyserini's index was made with: words, possessives, stop words, Porter stems.

The words are those of Lucene's StandardTokenizer for scripts that put blanks between words: runs of letters and digits,
held together by an apostrophe, a full stop or a colon between letters, and by a comma or a full stop between digits.
"""

from __future__ import annotations

import re
from functools import lru_cache

import Stemmer

STOP_WORDS = frozenset((
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not",
    "of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was",
    "will", "with",
))  # fmt: skip
"""Lucene's 33."""

_WORD = re.compile(
    r"\w+(?:['’.:·](?<=[^\W\d_].)(?=[^\W\d_])\w+"
    r"|[.,;'](?<=\d.)(?=\d)\w+)*"
)
_POSSESSIVES = ("'s", "’s")

_stem = Stemmer.Stemmer("porter").stemWord


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, as they stand."""
    return _WORD.findall(text)


@lru_cache(maxsize=1 << 16)
def to_term(word: str) -> str:
    """Return the term that a word is indexed as; empty for a stop word."""
    word = word.removesuffix(_POSSESSIVES[0]).removesuffix(_POSSESSIVES[1])
    return "" if word in STOP_WORDS else _stem(word)


def to_terms(text: str) -> list[str]:
    """Return the terms that a text in lower case is indexed and searched by."""
    return [indexed for word in split_words(text) if (indexed := to_term(word))]
