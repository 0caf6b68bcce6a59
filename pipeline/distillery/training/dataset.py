"""Which episodes a student learns from, and what exactly of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from distillery.agents import Agent, Episode
from distillery.api import Spec
from distillery.environments.base import Environment
from distillery.planning import Dataset
from distillery.training.leaks import Quotations, check_leaks, quoted_hint
from distillery.training.samples import ChatRenderer, Sample, samples_of, student_head


@dataclass(frozen=True, slots=True)
class Selection:
    """Episodes that are learnt from, and why others are not."""

    kept: list[Episode]
    dropped: dict[str, int] = field(default_factory=dict)


def keep(
    episodes: Sequence[Episode],
    spec: Spec,
    hints: Quotations,
    *,
    filtered: bool,
    too_long: Callable[[Episode], bool] = lambda _: False,
) -> Selection:
    """Keep what is worth learning from (arXiv 2510.01375, section 3.4).

    Args:
        episodes: of one learning arm, all rounds so far.
        spec: its ``teaching`` holds the thresholds.
        hints: every hint ever shown: episodes in which the agent quotes one are dropped.
        filtered: drop failures and clumsy successes too; a control keeps them.
        too_long: whether an episode has a sample above ``training.maxSampleTokens``.
    """
    dropped: Counter[str] = Counter()
    kept = []
    for episode in episodes:
        if not episode.turns:
            reason = "broken"
        elif filtered and episode.score < spec.teaching.min_score:
            reason = "failed"
        elif filtered and episode.invalid_actions > spec.teaching.max_invalid_actions:
            reason = "invalid actions"
        elif quoted_hint(episode, hints):
            reason = "quotes a hint"
        elif too_long(episode):
            reason = "too long"
        else:
            kept.append(episode)
            continue
        dropped[reason] += 1
    return Selection(kept, dict(dropped))


def choose(by_arm: dict[str, Selection], dataset: Dataset, seed: int) -> list[Episode]:
    """The episodes of a dataset; for a matched one, as many as the arm with the fewest has, drawn with ``seed``."""
    episodes = by_arm[dataset.arm].kept
    if dataset.matched:
        fewest = min(len(selection.kept) for selection in by_arm.values())
        chosen = random.Random(seed).sample(range(len(episodes)), fewest)  # noqa: S311 - no secret
        episodes = [episodes[i] for i in sorted(chosen)]
    return episodes


def build(
    episodes: Sequence[Episode],
    *,
    spec: Spec,
    agent: Agent,
    environment: Environment,
    renderer: ChatRenderer,
    hints: Quotations,
) -> list[Sample]:
    """The samples of the episodes, in their order, each checked for leaks.

    Raises:
        LeakError: a sample holds a hint or a worked example.
        TemplateError: the model's chat template can't be used.
    """
    keep_examples = spec.agent.keep_examples
    examples: dict[str, Quotations] = {}
    samples = []
    for episode in episodes:
        category = episode.task.category
        if category not in examples:
            examples[category] = Quotations(
                text
                for example in environment.examples(category)
                for text in (example.opening, *(t.thought for t in example.turns))
            )
        head = student_head(agent, episode, keep_examples=keep_examples)
        parts = samples_of(renderer, agent, episode, keep_examples=keep_examples)
        instructions = agent.head(episode.task, "", hints=(), examples=0).messages[0]["content"]
        check_leaks(
            episode,
            head,
            parts,
            hints=hints,
            examples=None if keep_examples else examples[category],
            instructions=instructions,
        )
        samples += parts
    return samples
