"""The extractor that needs no language model: it counts what failed episodes show.

Three kinds of hints, after the idea of inferring preconditions from what was accepted and refused (MSGI, arXiv
2001.00248):

* where things were found, by kind: the locations with the best odds of finding it per search come first;
* what had to hold for an action: conditions that held whenever it was accepted and often did not when it was refused;
* what had to hold for a larger reward of an action, by category of tasks, where rewards are graded.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, variance
from typing import ClassVar

from distillery.environments.base import Fact
from distillery.episodes import Episode
from distillery.hints.base import EVERY_CATEGORY, ExtractionContext, HintCandidate, normalize

# Fruitless searches that every location is credited with: one lucky search is no reason to send everybody there.
_PRIOR_SEARCHES = 2
_MAX_LOCATIONS = 6
_MIN_EVIDENCE = 3
_MIN_INCREASE = 0.05  # of the score
_STANDARD_ERRORS = 2  # that an increase has to exceed


class RuleExtractor:
    """A counter of facts that the environment reads from episodes."""

    name: ClassVar[str] = "rules"
    model = ""

    def __init__(self, context: ExtractionContext) -> None:
        self._context = context

    async def extract(self, failures: Sequence[Episode]) -> list[HintCandidate]:
        """Return one candidate for each thing and each action that the failures show enough about."""
        facts, succeeded = self._read_facts(failures), self._read_facts(self._context.successes)
        categories = {episode.id: episode.task.category for episode in (*failures, *self._context.successes)}
        limit = self._context.spec.hints.max_length
        candidates = [
            *find_locations(facts, max_length=limit),
            *find_preconditions(facts),
            *find_reward_conditions(facts, succeeded, categories),
        ]
        return [m for m in candidates if normalize(m.text, max_length=limit) == m.text]

    def _read_facts(self, episodes: Iterable[Episode]) -> list[tuple[int, list[Fact]]]:
        read = self._context.environment.read
        return [
            (
                episode.id,
                read(episode.initial_observation, [(t.action, t.observation) for t in episode.turns if t.action]),
            )
            for episode in episodes
        ]


def find_locations(facts: Iterable[tuple[int, Sequence[Fact]]], *, max_length: int) -> list[HintCandidate]:
    """Return where each thing was found, in the order of odds: times found per search."""
    searches: Counter[str] = Counter()
    finds: dict[str, Counter[str]] = defaultdict(Counter)
    seen_in: dict[str, set[int]] = defaultdict(set)
    for episode_id, episode_facts in facts:
        for fact in episode_facts:
            if fact.kind == "looked":
                searches[fact.place] += 1
            elif fact.kind == "found":
                finds[fact.thing][fact.place] += 1
                seen_in[fact.thing].add(episode_id)
    candidates = []
    for thing, counts in sorted(finds.items()):
        odds = {place: times / (searches[place] + _PRIOR_SEARCHES) for place, times in counts.items()}
        best = sorted(odds, key=lambda place: (-odds[place], place))[:_MAX_LOCATIONS]
        text = f"look for a {thing} in {best[0]}"
        for place in best[1:]:
            if len(text) + len(place) + 2 <= max_length:
                text += f", {place}"
        candidates.append(HintCandidate(EVERY_CATEGORY, text, tuple(sorted(seen_in[thing])), f"place of {thing}"))
    return candidates


def find_preconditions(facts: Iterable[tuple[int, Sequence[Fact]]]) -> list[HintCandidate]:
    """Return the conditions of accepted actions that were missing in at least half of the refusals."""
    accepted: dict[str, list[frozenset[str]]] = defaultdict(list)
    refused: dict[str, list[tuple[int, frozenset[str]]]] = defaultdict(list)
    for episode_id, episode_facts in facts:
        for fact in episode_facts:
            if fact.kind == "accepted":
                accepted[fact.thing].append(fact.conditions)
            elif fact.kind == "refused":
                refused[fact.thing].append((episode_id, fact.conditions))
    candidates = []
    for action, refusals in sorted(refused.items()):
        if min(len(refusals), len(accepted[action])) < _MIN_EVIDENCE:
            continue
        needed = [
            condition
            for condition in sorted(frozenset.intersection(*accepted[action]))
            if sum(condition not in held for _, held in refusals) * 2 >= len(refusals)
        ]
        if needed:
            episodes = tuple(sorted({episode_id for episode_id, _ in refusals}))
            text = f"{action} only when {' and '.join(needed)}"
            candidates.append(HintCandidate(EVERY_CATEGORY, text, episodes, f"precondition of {action}"))
    return candidates


def find_reward_conditions(
    failed: Iterable[tuple[int, Sequence[Fact]]],
    succeeded: Iterable[tuple[int, Sequence[Fact]]],
    categories: Mapping[int, str],
) -> list[HintCandidate]:
    """Return the conditions under which an action earned clearly more than without them, on average.

    A condition that holds in the episodes of a category is a hint for it, and so is one that holds in those of all
    categories together, unless the category's own show the contrary. Successes count too: among failures alone, those
    that lack nothing but luck would speak against the conditions that the others lack. The failures that lacked a
    condition support its hint.

    Args:
        failed: the facts of failures, by episode.
        succeeded: the facts of successes.
        categories: of the episodes' tasks.
    """
    earned: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    failures: dict[tuple[str, str], list[tuple[int, Fact]]] = defaultdict(list)
    for is_failure, episodes in ((True, failed), (False, succeeded)):
        for episode_id, facts in episodes:
            for fact in facts:
                if fact.kind == "scored":
                    earned[fact.thing, categories[episode_id]].append(fact)
                    if is_failure:
                        failures[fact.thing, categories[episode_id]].append((episode_id, fact))
    candidates = []
    for action, category in sorted(earned):
        together = [fact for (thing, _), some in earned.items() if thing == action for fact in some]
        for condition in sorted({condition for fact in together for condition in fact.conditions}):
            here, everywhere = _split(earned[action, category], condition), _split(together, condition)
            if _is_increase(*here) or (_is_increase(*everywhere) and not _is_contrary(*here)):
                own = failures[action, category]
                episodes = tuple(sorted({number for number, fact in own if condition not in fact.conditions}))
                text = f"{action} only when {condition}"
                candidates.append(HintCandidate(category, text, episodes, f"{action}: {condition}"))
    return candidates


def _split(earned: Iterable[Fact], condition: str) -> tuple[list[float], list[float]]:
    """Return the scores with a condition, and those without."""
    scores: tuple[list[float], list[float]] = ([], [])
    for fact in earned:
        scores[condition not in fact.conditions].append(fact.score)
    return scores


def _is_enough(having: Sequence[float], lacking: Sequence[float]) -> bool:
    return min(len(having), len(lacking)) >= _MIN_EVIDENCE


def _is_contrary(having: Sequence[float], lacking: Sequence[float]) -> bool:
    return _is_enough(having, lacking) and fmean(having) <= fmean(lacking)


def _is_increase(having: Sequence[float], lacking: Sequence[float]) -> bool:
    """Return whether the first are better than the second, by more than chance and by what is worth a hint."""
    if not _is_enough(having, lacking):
        return False
    increase = fmean(having) - fmean(lacking)
    error = (variance(having) / len(having) + variance(lacking) / len(lacking)) ** 0.5
    return increase >= _MIN_INCREASE and increase > _STANDARD_ERRORS * error
