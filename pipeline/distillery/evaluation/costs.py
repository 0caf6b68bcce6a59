"""The cost of each arm: everything that was played, asked and trained so that it could be played, over all rounds.

The evaluation itself is not counted: it costs all arms alike, and no user pays for it. One sum stands for all of it, in
tokens that a model reads or writes: training on a token costs three times that, a pass forward and one back at twice
its price (Kaplan et al., arXiv 2001.08361, section 2.1).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from distillery.core.api import Spec
from distillery.core.planner import Kind, Model, Stage, StageId
from distillery.core.planner.graph import BASE, student_model
from distillery.core.planner.plays import BASELINE, NO_HINTS, ON_POLICY, Strategies

TRAINED = 3
"""The price of a trained token, in tokens that are read or written."""

TOLERANCE = 0.05
"""Two costs are equal if they differ by no more than this share of the larger."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost.

    Attributes:
        episodes: played.
        calls: replies of language models, of those that play and those that read failures.
        prompt_tokens: that they read.
        cached_tokens: of these, from the servers' prefix caches.
        completion_tokens: that they wrote.
        trained_tokens: that students were trained on, each epoch counted.
    """

    episodes: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    trained_tokens: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))

    @property
    def equivalents(self) -> int:
        """The cost as one sum, in tokens that are read or written."""
        return self.prompt_tokens - self.cached_tokens + self.completion_tokens + TRAINED * self.trained_tokens

    def to_json(self) -> dict[str, int]:
        """Write what a report shows."""
        names = {"prompt_tokens": "promptTokens", "cached_tokens": "cachedTokens", "trained_tokens": "trainedTokens"}
        names |= {"completion_tokens": "completionTokens"}
        return {**{names.get(name, name): value for name, value in asdict(self).items()}, "sum": self.equivalents}


def are_equal(a: Cost, b: Cost) -> bool:
    """Return whether two costs differ by at most :data:`TOLERANCE`."""
    return abs(a.equivalents - b.equivalents) <= TOLERANCE * max(a.equivalents, b.equivalents)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The spending of a run so far.

    Attributes:
        played: by round and arm of play on training tasks.
        extracted: by round, by the extractor.
        trained: trained tokens, by the stage.
    """

    played: Mapping[tuple[int, str], Cost]
    extracted: Mapping[int, Cost]
    trained: Mapping[StageId, int]


class Costs:
    """The costs of the arms of a run.

    Args:
        spec: the run's.
        stages: of all rounds so far.
        ledger: what they spent.
    """

    def __init__(self, spec: Spec, stages: Sequence[Stage], ledger: Ledger) -> None:
        self._strategies = Strategies.of(spec)
        self._plays = [stage for stage in stages if stage.id.kind in (Kind.ROLLOUT, Kind.TEACH)]
        self._starts = {
            stage.id.round: stage.player or BASE
            for stage in stages
            if stage.id == StageId(stage.id.round, Kind.ROLLOUT)
        }
        self._ledger = ledger

    def of(self, arm: str, round: int) -> Cost:
        """Return what an arm of a round's evaluation cost."""
        strategies, start = self._strategies, self._starts[round]
        student = strategies.student_of(arm)
        if arm == BASELINE and start.trained_by:
            student, round = start.trained_by.variant, start.trained_by.round
        hinted, learned, total = strategies.retriever_of(arm) != NO_HINTS, tuple[str, ...](), Cost()
        if student:
            dataset = strategies.students[student]
            learned = strategies.matched_arms if dataset.matched else (dataset.arm,)
            hinted |= any(strategies.retriever_of(one) != NO_HINTS for one in learned)
            total = Cost(trained_tokens=self._trained(student_model(round, student)))
        arms = {one for one in learned if one != ON_POLICY}
        if hinted:
            # hints are drawn from what the loop plays without them
            arms.add(ON_POLICY)
            total = sum((self._ledger.extracted.get(number, Cost()) for number in range(1, round + 1)), total)
        return total + self._of_plays(arms, round, learns_own=ON_POLICY in learned)

    def _of_plays(self, arms: Collection[str], round: int, *, learns_own: bool = False) -> Cost:
        """Return what play on training tasks cost up to a round, with the training of the students that played.

        Args:
            arms: that played.
            round: the last one.
            learns_own: also the play without hints that students learn from, in each round the starting model's or a
                control's.
        """
        stages = [
            stage
            for stage in self._plays
            if stage.id.round <= round
            and (set(arms).intersection(stage.arms) or (learns_own and stage.arms == stage.own_arms[-1:]))
        ]
        played = (self._ledger.played.get((stage.id.round, arm), Cost()) for stage in stages for arm in stage.arms)
        trained = sum(self._trained(player) for player in {stage.player for stage in stages if stage.player})
        return sum(played, Cost(trained_tokens=trained))

    def _trained(self, player: Model) -> int:
        """Return the tokens that a player was trained on."""
        return self._ledger.trained.get(player.trained_by, 0) if player.trained_by else 0


def _values(cost: Cost) -> Iterable[Any]:
    return asdict(cost).values()
