"""The episodes that a student learns from, and what exactly of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from distillery.agents import Agent
from distillery.core.api import Spec
from distillery.core.planner import Dataset
from distillery.environments.base import Environment
from distillery.episodes import Episode
from distillery.training.leaks import Quotations, check_leaks, quoted_hint
from distillery.training.samples import ChatRenderer, Sample, samples_of, student_head


@dataclass(frozen=True, slots=True)
class Selection:
    """Episodes to train on, and why others are dropped."""

    kept: list[Episode]
    dropped: dict[str, int] = field(default_factory=dict)


def keep(
    episodes: Sequence[Episode],
    spec: Spec,
    hints: Quotations,
    *,
    filtered: bool,
    is_held_out: Callable[[Episode], bool] = lambda _: False,
    too_long: Callable[[Episode], bool] = lambda _: False,
) -> Selection:
    """Keep what is worth learning from (arXiv 2510.01375, section 3.4).

    Args:
        episodes: of one learning arm, all rounds so far.
        spec: its ``teaching`` holds the thresholds.
        hints: every hint ever shown: episodes in which the agent quotes one are dropped.
        filtered: drop failures and clumsy successes too; a control keeps them.
        is_held_out: whether the task is a held-out one, whatever its id.
        too_long: whether an episode has a sample above ``training.maxSampleTokens``.
    """
    dropped: Counter[str] = Counter()
    kept = []
    for episode in episodes:
        if not episode.turns:
            reason = "broken"
        elif is_held_out(episode):
            reason = "held-out task"
        elif filtered and episode.score < spec.data_filter.min_score:
            reason = "failed"
        elif filtered and episode.invalid_actions > spec.data_filter.max_invalid_actions:
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


def choose(by_arm: Mapping[str, Selection], dataset: Dataset, seed: int) -> list[Episode]:
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


def build(
    episodes: Sequence[Episode],
    *,
    spec: Spec,
    agent: Agent,
    environment: Environment,
    renderer: ChatRenderer,
    hints: Quotations,
) -> list[Sample]:
    """Return the samples of the episodes, in their order, each checked for leaks.

    Raises:
        LeakError: a sample holds a hint or a worked example.
        TemplateError: the model's chat template can't be used.
    """
    keep_examples = spec.agent.keep_few_shot_examples
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
