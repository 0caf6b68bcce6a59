"""The leak check: nothing of a hint, and no worked example, in what a student is trained on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distillery.agents import Episode, Message
from distillery.training.samples import Sample

_WORD = re.compile(r"[a-z0-9]+")
_GRAM = 8  # words in a row that count as a quotation
_SHORTEST = 3  # a whole hint of fewer words says nothing: anybody could have written it


class LeakError(Exception):
    """A training sample quotes a hint or holds a worked example: the message names the episode and the text."""


class Leak(NamedTuple):
    """A quotation: of which text, and which words."""

    source: str
    words: str


def words(text: str) -> tuple[str, ...]:
    """The words of a text, lower case, without punctuation."""
    return tuple(_WORD.findall(text.lower()))


class Quotations:
    """Finds passages of the given texts: any 8 words in a row, or a whole shorter text of at least 3 words."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._grams: dict[int, dict[tuple[str, ...], str]] = {}
        for text in texts:
            tokens = words(text)
            size = min(len(tokens), _GRAM)
            if size >= _SHORTEST:
                for gram in _grams(tokens, size):
                    self._grams.setdefault(size, {}).setdefault(gram, text)

    def find(self, text: str, *, allowed: Sequence[str] = ()) -> Leak | None:
        """The first passage quoted in ``text`` that none of the ``allowed`` texts holds by itself.

        The environment's own words are allowed: a hint about "a mug on the desk 1" quotes them, not they it.
        """
        tokens = words(text)
        for size, grams in self._grams.items():
            quoted = [gram for gram in _grams(tokens, size) if gram in grams]
            if quoted:
                innocent = {gram for other in allowed for gram in _grams(words(other), size)}
                for gram in quoted:
                    if gram not in innocent:
                        return Leak(grams[gram], " ".join(gram))
        return None


def _grams(tokens: tuple[str, ...], size: int) -> Iterable[tuple[str, ...]]:
    return (tokens[i : i + size] for i in range(len(tokens) - size + 1))


def quoted_hint(episode: Episode, hints: Quotations) -> Leak | None:
    """A hint that the agent itself quoted in its replies, against the rules it was given."""
    told = [episode.opening, *(turn.observation for turn in episode.turns)]
    return hints.find("\n".join(turn.reply for turn in episode.turns), allowed=told)


def check_leaks(
    episode: Episode,
    head: Sequence[Message],
    samples: Sequence[Sample],
    *,
    hints: Quotations,
    examples: Quotations | None,
    instructions: str,
) -> None:
    """Raise :class:`LeakError` if a sample of the episode holds what a student must not see.

    Args:
        episode: whose samples these are.
        head: the student's first messages.
        samples: what is to be trained on.
        hints: every hint of the bank.
        examples: the worked examples of the task's category; None where students keep them.
        instructions: the agent's fixed words, which any text may share.
    """
    told = [instructions, episode.opening, *(turn.observation for turn in episode.turns)]
    for sample in samples:
        leak = hints.find(sample.text, allowed=told)
        if leak is None and examples is not None:
            leak = examples.find("\n".join(message["content"] for message in head), allowed=told)
        if leak is not None:
            raise LeakError(
                f"the sample of episode {episode.id}, task {episode.task.id}, holds {leak.words!r} from {leak.source!r}"
            )
