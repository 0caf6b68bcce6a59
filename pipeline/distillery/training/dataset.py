"""The selection of the episodes that a student learns from, and the samples built of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from distillery.agents import Agent
from distillery.core.api.spec.training import DataFilter
from distillery.core.contracts.messages import read_text
from distillery.core.planner import Dataset
from distillery.environments.base import Environment
from distillery.episodes import Episode
from distillery.training.leaks import ForbiddenTexts, NgramIndex, check_leaks, find_quoted_hint
from distillery.training.samples import ChatRenderer, Sample, build_samples, build_student_prefix


@dataclass(frozen=True, slots=True)
class Selection:
    """Episodes to train on, and why others are dropped."""

    kept: list[Episode]
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EpisodeFilter:
    """A filter that keeps what is worth learning from (arXiv 2510.01375, section 3.4).

    Attributes:
        settings: the thresholds for success and for invalid actions.
        hints: every hint ever shown: episodes in which the agent quotes one are dropped.
        is_held_out: whether the task is a held-out one, whatever its id.
        is_too_long: whether an episode has a sample above ``training.maxSampleTokens``.
    """

    settings: DataFilter
    hints: NgramIndex
    is_held_out: Callable[[Episode], bool] = lambda _: False
    is_too_long: Callable[[Episode], bool] = lambda _: False

    def select(self, episodes: Sequence[Episode], *, filtered: bool) -> Selection:
        """Return the episodes to learn from.

        Args:
            episodes: of one learning arm, all rounds so far.
            filtered: drop failures and clumsy successes too; a control keeps them.
        """
        dropped: Counter[str] = Counter()
        kept = []
        for episode in episodes:
            if reason := self._find_reason_to_drop(episode, filtered=filtered):
                dropped[reason] += 1
            else:
                kept.append(episode)
        latest = keep_latest(kept, self.settings.max_per_task)
        if surplus := len(kept) - len(latest):
            dropped["beyond maxPerTask"] = surplus
        return Selection(latest, dict(dropped))

    def _find_reason_to_drop(self, episode: Episode, *, filtered: bool) -> str:
        """Return why an episode is dropped; empty if it is kept."""
        if not episode.turns:
            return "broken"
        if self.is_held_out(episode):
            return "held-out task"
        if filtered and episode.score < self.settings.min_score:
            return "failed"
        if filtered and episode.invalid_actions > self.settings.max_invalid_actions:
            return "invalid actions"
        if find_quoted_hint(episode, self.hints):
            return "quotes a hint"
        return "too long" if self.is_too_long(episode) else ""


def keep_share(selection: Selection, present: Collection[int], share: float, seed: int) -> Selection:
    """Return the episodes of the present round, and a share of those of earlier rounds.

    Args:
        selection: episodes of all rounds.
        present: the ids of those of the present round.
        share: of the others that is kept.
        seed: for what is drawn.
    """
    earlier = [index for index, episode in enumerate(selection.kept) if episode.id not in present]
    draw = random.Random(seed)  # noqa: S311 - no secret
    again = set(draw.sample(earlier, round(share * len(earlier))))
    kept = [e for index, e in enumerate(selection.kept) if e.id in present or index in again]
    dropped = {**selection.dropped, "of earlier rounds": len(selection.kept) - len(kept)}
    return Selection(kept, {reason: number for reason, number in dropped.items() if number})


def keep_latest(episodes: Sequence[Episode], number: int | None) -> list[Episode]:
    """Return the last so many episodes of each task, in their order; None is no limit."""
    if number is None:
        return list(episodes)
    seen: Counter[str] = Counter()
    kept = []
    for episode in reversed(episodes):
        if seen[episode.task.id] < number:
            kept.append(episode)
        seen[episode.task.id] += 1
    return kept[::-1]


def choose_for_dataset(by_arm: Mapping[str, Selection], dataset: Dataset, seed: int) -> list[Episode]:
    """Return the episodes of a dataset, in their order.

    A matched one has, of each task, as many episodes as every arm kept of it, drawn with ``seed``: students that are
    matched with one another learn from the same tasks, and from equally many episodes of each.

    Args:
        by_arm: what is kept of the learning arms: for a matched dataset of all that are matched with one another.
        dataset: which of it.
        seed: for what is drawn.
    """
    episodes = by_arm[dataset.arm].kept
    if not dataset.matched:
        return episodes
    solved = [Counter(episode.task.id for episode in selection.kept) for selection in by_arm.values()]
    draw, of_task = random.Random(seed), dict[str, list[int]]()  # noqa: S311 - no secret
    for index, episode in enumerate(episodes):
        of_task.setdefault(episode.task.id, []).append(index)
    chosen = [
        index for task, indices in of_task.items() for index in draw.sample(indices, min(s[task] for s in solved))
    ]
    return [episodes[index] for index in sorted(chosen)]


@dataclass(frozen=True, slots=True)
class SampleBuilder:
    """A builder of training samples.

    Attributes:
        agent: which the episodes were played with.
        environment: which they were played in.
        renderer: of the student's model.
        hints: every hint ever shown.
        keep_examples: whether students keep the worked examples.
    """

    agent: Agent
    environment: Environment
    renderer: ChatRenderer
    hints: NgramIndex
    keep_examples: bool

    def build(self, episodes: Sequence[Episode]) -> list[Sample]:
        """Return the samples of the episodes, in their order, each checked for leaks.

        Raises:
            LeakError: a sample holds a hint or a worked example.
            TemplateError: the model's chat template can't be used.
        """
        forbidden: dict[str, ForbiddenTexts] = {}
        samples = []
        for episode in episodes:
            category = episode.task.category
            if category not in forbidden:
                examples = None if self.keep_examples else self._index_examples(category)
                forbidden[category] = ForbiddenTexts(self.hints, examples)
            prefix = build_student_prefix(self.agent, episode, keep_examples=self.keep_examples)
            parts = build_samples(self.renderer, self.agent, episode, keep_examples=self.keep_examples)
            instructions = read_text(self.agent.build_prefix(episode.task, "", hints=(), examples=0).messages[0])
            check_leaks(episode, prefix, parts, forbidden=forbidden[category], instructions=instructions)
            samples += parts
        return samples

    def _index_examples(self, category: str) -> NgramIndex:
        """Return the texts of a category's worked examples."""
        return NgramIndex(
            text
            for example in self.environment.examples(category)
            for text in (example.opening, *(turn.thought for turn in example.turns))
        )
