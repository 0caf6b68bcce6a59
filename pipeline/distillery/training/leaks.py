"""The leak check: no quotation of a hint, and no worked example, in what a student is trained on.

The check removes quotations. A student can still learn to say, in its thoughts, what the hints said: the recitation
rate is the share of episodes that show that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from distillery.core.contracts.messages import Message, list_texts
from distillery.episodes import Episode
from distillery.training.samples import Sample

# Scripts that put no blanks between words: Thai, Lao, Myanmar, Khmer, kana, and Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_CHARACTER = re.compile(f"[{_UNSPACED}]")
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


class _NgramLength(NamedTuple):
    """A length of text: so many words or, where a script has no blanks, so many characters; mixtures count in part."""

    words: int
    characters: int

    @property
    def units(self) -> int:
        """The length in units of which a word and a character each count a whole number."""
        return self.words * self.characters

    def measure(self, tokens: Iterable[str]) -> int:
        """Return the length of tokens in the same units."""
        return sum(self.words if _CHARACTER.match(token) else self.characters for token in tokens)

    def split(self, tokens: Sequence[str]) -> Iterable[tuple[str, ...]]:
        """Yield, from each token on, the shortest n-gram that is as long as this."""
        end = length = 0
        for start, token in enumerate(tokens):
            while length < self.units and end < len(tokens):
                length += self.measure(tokens[end : end + 1])
                end += 1
            if length < self.units:
                return
            yield tuple(tokens[start:end])
            length -= self.measure([token])


_QUOTATION = _NgramLength(words=8, characters=12)
MIN_WORDS = 3
"""The words of the shortest hint that is searched for as a whole: anybody could have written a shorter one."""
_RECITATION = _NgramLength(words=2, characters=6)
_CONTENT_LETTERS = 4
_FEW_HINTS = 10  # among fewer hints a word that most of them hold can be what they are about


class LeakError(Exception):
    """A hint or a worked example in a training sample; the message names the episode and the text."""


class Match(NamedTuple):
    """A quotation: of which text, and which words."""

    source: str
    words: str


def split_words(text: str) -> tuple[str, ...]:
    """Return the words of a text in any script, without case, accents and punctuation; unspaced scripts by character.

    Accents are left out, not taken for borders of words, so that a quotation is found with and without them.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        kinds = ((unicodedata.category(character), character) for character in text)
        text = "".join(character for kind, character in kinds if kind[0] != "M" and kind != "Cf")
    return tuple(_TOKEN.findall(text.casefold()))


class NgramIndex:
    """A search for passages of the given texts: 8 words in a row, or a whole shorter text of at least 3 words.

    In scripts without blanks between words it is 12 characters, and a shorter text of at least 5.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._ngrams: dict[tuple[str, ...], str] = {}
        self._short: dict[int, dict[tuple[str, ...], str]] = {}
        for text in texts:
            tokens = split_words(text)
            length = _QUOTATION.measure(tokens)
            if length >= _QUOTATION.units:
                for ngram in _QUOTATION.split(tokens):
                    self._ngrams.setdefault(ngram, text)
            elif length * _QUOTATION.words >= MIN_WORDS * _QUOTATION.units:
                self._short.setdefault(len(tokens), {}).setdefault(tokens, text)

    def find(self, text: str, *, allowed: Sequence[str] = ()) -> Match | None:
        """Return the first passage quoted in ``text`` that none of the ``allowed`` texts holds by itself.

        The environment's own words are allowed: a hint about "a mug on the desk 1" quotes them, not they it.
        """
        innocent: set[tuple[str, ...]] | None = None
        for ngram, source in self._find_all(split_words(text)):
            if innocent is None:
                innocent = {ngram for other in allowed for ngram, _ in self._find_all(split_words(other))}
            if ngram not in innocent:
                return Match(source, " ".join(ngram))
        return None

    def _find_all(self, tokens: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], str]]:
        """Yield each n-gram of the tokens that is in the index, with the text that it comes from."""
        for ngram in _QUOTATION.split(tokens):
            if ngram in self._ngrams:
                yield ngram, self._ngrams[ngram]
        for size, texts in self._short.items():
            for start in range(len(tokens) - size + 1):
                ngram = tokens[start : start + size]
                if ngram in texts:
                    yield ngram, texts[ngram]


def find_quoted_hint(episode: Episode, hints: NgramIndex) -> Match | None:
    """Return a hint that the agent itself quoted in its replies, against the rules it was given."""
    return hints.find("\n".join(turn.reply for turn in episode.turns), allowed=_list_environment_texts(episode))


def _list_environment_texts(episode: Episode) -> list[str]:
    """Return what the environment wrote."""
    return [episode.initial_observation, *(turn.observation for turn in episode.turns)]


class Recitation:
    """A test of which episodes recite the hints that were given for their tasks.

    An episode recites a hint if two content words of it, neighbors in the hint, stand in the same order as neighbors in
    one of the episode's thoughts, and nowhere in what the environment said. Content words are those of at least four
    letters, without the words of the task's goal and, among ten hints or more, without those that more than half of the
    hints hold, which are wording ("look for"). Words that are no content words are passed over on both sides; numbers
    are not. In scripts without blanks between words it is six characters in a row. A thought is a reply without its
    command.

    Some of this is chance, for hints speak of what the tasks are about. How much is shown by the model's own play
    without hints, compared with the hints that the teacher was given on the same tasks.

    Args:
        hints: every hint ever shown.
    """

    def __init__(self, hints: Sequence[str]) -> None:
        holding: dict[str, int] = {}
        for text in hints:
            for word in set(split_words(text)):
                holding[word] = holding.get(word, 0) + 1
        common = {word for word, number in holding.items() if 2 * number > len(hints)}
        self._wording = common if len(hints) >= _FEW_HINTS else set()

    def is_in(self, episode: Episode, hints: Sequence[str]) -> bool:
        """Return whether the episode recites one of the hints."""
        passed_over = self._wording | set(split_words(episode.task.goal))

        def split(texts: Iterable[str]) -> set[tuple[str, ...]]:
            content = ([word for word in split_words(text) if _is_content(word, passed_over)] for text in texts)
            return {ngram for tokens in content for ngram in _RECITATION.split(tokens)}

        of_hints = split(hints)
        if not of_hints:
            return False
        recited = split(turn.reply.removesuffix(turn.action or "") for turn in episode.turns) & of_hints
        return bool(recited and recited - split(_list_environment_texts(episode)))

    def rate(self, episodes: Sequence[Episode], given: Mapping[str, Sequence[str]]) -> float | None:
        """Return the share of episodes that recite a hint; None without episodes.

        Args:
            episodes: that a student learns from.
            given: hints by the id of the task, for episodes that were played without any.
        """
        if not episodes:
            return None
        return sum(self.is_in(e, e.hints or given.get(e.task.id, ())) for e in episodes) / len(episodes)


def _is_content(word: str, passed_over: set[str]) -> bool:
    """Return whether a word carries content."""
    if _CHARACTER.match(word) or any(map(str.isdigit, word)):
        return True  # a character is no word that could be passed over, and numbers keep names apart
    return len(word) >= _CONTENT_LETTERS and word not in passed_over


@dataclass(frozen=True, slots=True)
class ForbiddenTexts:
    """The texts that a student must not see.

    Attributes:
        hints: every hint ever shown.
        examples: the worked examples of a task's category; None where students keep them.
    """

    hints: NgramIndex
    examples: NgramIndex | None


def check_leaks(
    episode: Episode,
    prefix: Sequence[Message],
    samples: Sequence[Sample],
    *,
    forbidden: ForbiddenTexts,
    instructions: str,
) -> None:
    """Raise :class:`LeakError` if a sample of the episode holds what a student must not see.

    Args:
        episode: whose samples these are.
        prefix: the student's first messages.
        samples: what is to be trained on.
        forbidden: what they must not hold.
        instructions: the agent's fixed words, which any text may share.
    """
    allowed = [instructions, *_list_environment_texts(episode)]
    for sample in samples:
        match = forbidden.hints.find(sample.text, allowed=allowed)
        if match is None and forbidden.examples is not None:
            shown = "\n".join(text for message in prefix for text in list_texts(message))
            match = forbidden.examples.find(shown, allowed=allowed)
        if match is not None:
            raise LeakError(
                f"the sample of episode {episode.id}, task {episode.task.id}, holds {match.words!r} "
                f"from {match.source!r}"
            )
