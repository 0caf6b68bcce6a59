"""The leak check: no quotation of a hint, and no worked example, in what a student is trained on.

The check removes quotations. A student can still learn to say, in its thoughts, what the hints said: the recitation
rate tells how many of the episodes show that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from distillery.agents import Message
from distillery.episodes import Episode
from distillery.training.samples import Sample

# Scripts that put no blanks between words: Thai, Lao, Myanmar, Khmer, kana, and Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_CHARACTER = re.compile(f"[{_UNSPACED}]")
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


class _Measure(NamedTuple):
    """A length of text: so many words or, where a script has no blanks, so many characters; mixtures count in part."""

    words: int
    characters: int

    @property
    def whole(self) -> int:
        return self.words * self.characters

    def of(self, tokens: Iterable[str]) -> int:
        return sum(self.words if _CHARACTER.match(token) else self.characters for token in tokens)

    def runs(self, tokens: Sequence[str]) -> Iterable[tuple[str, ...]]:
        """From each token on, the shortest run of tokens that is as long as this."""
        end = length = 0
        for start, token in enumerate(tokens):
            while length < self.whole and end < len(tokens):
                length += self.of(tokens[end : end + 1])
                end += 1
            if length < self.whole:
                return
            yield tuple(tokens[start:end])
            length -= self.of([token])


_QUOTATION = _Measure(words=8, characters=12)
_SHORTEST = 3 / 8  # of a quotation: a whole hint that is shorter says nothing, anybody could have written it
_RECITATION = _Measure(words=2, characters=6)
_CONTENT_LETTERS = 4
_FEW_HINTS = 10  # among fewer hints a word that most of them hold can be what they are about


class LeakError(Exception):
    """A training sample quotes a hint or holds a worked example: the message names the episode and the text."""


class Leak(NamedTuple):
    """A quotation: of which text, and which words."""

    source: str
    words: str


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text in any script, without case, accents and punctuation; unspaced scripts by character.

    Accents are left out, not taken for borders of words, so that a quotation is found with and without them.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        kinds = ((unicodedata.category(character), character) for character in text)
        text = "".join(character for kind, character in kinds if kind[0] != "M" and kind != "Cf")
    return tuple(_TOKEN.findall(text.casefold()))


class Quotations:
    """A search for passages of the given texts: 8 words in a row, or a whole shorter text of at least 3 words.

    In scripts without blanks between words it is 12 characters, and a shorter text of at least 5.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._runs: dict[tuple[str, ...], str] = {}
        self._short: dict[int, dict[tuple[str, ...], str]] = {}
        for text in texts:
            tokens = words(text)
            length = _QUOTATION.of(tokens)
            if length >= _QUOTATION.whole:
                for run in _QUOTATION.runs(tokens):
                    self._runs.setdefault(run, text)
            elif length >= _SHORTEST * _QUOTATION.whole:
                self._short.setdefault(len(tokens), {}).setdefault(tokens, text)

    def find(self, text: str, *, allowed: Sequence[str] = ()) -> Leak | None:
        """Return the first passage quoted in ``text`` that none of the ``allowed`` texts holds by itself.

        The environment's own words are allowed: a hint about "a mug on the desk 1" quotes them, not they it.
        """
        innocent: set[tuple[str, ...]] | None = None
        for run, source in self._quoted(words(text)):
            if innocent is None:
                innocent = {run for other in allowed for run, _ in self._quoted(words(other))}
            if run not in innocent:
                return Leak(source, " ".join(run))
        return None

    def _quoted(self, tokens: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], str]]:
        for run in _QUOTATION.runs(tokens):
            if run in self._runs:
                yield run, self._runs[run]
        for size, wholes in self._short.items():
            for start in range(len(tokens) - size + 1):
                run = tokens[start : start + size]
                if run in wholes:
                    yield run, wholes[run]


def quoted_hint(episode: Episode, hints: Quotations) -> Leak | None:
    """Return a hint that the agent itself quoted in its replies, against the rules it was given."""
    return hints.find("\n".join(turn.reply for turn in episode.turns), allowed=_told(episode))


def _told(episode: Episode) -> list[str]:
    """What the environment said."""
    return [episode.opening, *(turn.observation for turn in episode.turns)]


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
            for word in set(words(text)):
                holding[word] = holding.get(word, 0) + 1
        common = {word for word, number in holding.items() if 2 * number > len(hints)}
        self._wording = common if len(hints) >= _FEW_HINTS else set()

    def is_in(self, episode: Episode, hints: Sequence[str]) -> bool:
        """Return whether the episode recites one of the hints."""
        passed_over = self._wording | set(words(episode.task.goal))

        def runs(text: str) -> set[tuple[str, ...]]:
            return set(_RECITATION.runs([word for word in words(text) if _is_content(word, passed_over)]))

        wanted = {run for hint in hints for run in runs(hint)}
        if not wanted:
            return False
        thoughts = (turn.reply.removesuffix(turn.action or "") for turn in episode.turns)
        said = {run for thought in thoughts for run in runs(thought)} & wanted
        return bool(said and said - {run for text in _told(episode) for run in runs(text)})

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
    if _CHARACTER.match(word) or any(map(str.isdigit, word)):
        return True  # a character is no word that could be passed over, and numbers keep names apart
    return len(word) >= _CONTENT_LETTERS and word not in passed_over


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
        hints: every hint ever shown.
        examples: the worked examples of the task's category; None where students keep them.
        instructions: the agent's fixed words, which any text may share.
    """
    told = [instructions, *_told(episode)]
    for sample in samples:
        leak = hints.find(sample.text, allowed=told)
        if leak is None and examples is not None:
            leak = examples.find("\n".join(message["content"] for message in head), allowed=told)
        if leak is not None:
            raise LeakError(
                f"the sample of episode {episode.id}, task {episode.task.id}, holds {leak.words!r} from {leak.source!r}"
            )
