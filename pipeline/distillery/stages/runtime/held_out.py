"""The held-out tasks by their content: nothing is learned from them, whatever their ids are.

Before a task is played only its goal is known; stage prepare compares goals where they tell tasks apart. Afterwards its
opening is known. Two tasks that open alike count as the same. They do not if tasks of this environment opened alike and
then answered the same actions differently: then openings do not identify tasks. A user's session of a task that opens
like a held-out one is left out in any case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence

from distillery.agents.chat import find_initial_observation
from distillery.core.contracts.messages import read_text
from distillery.core.planner.plays import BASELINE, CONFIRM_BASELINE
from distillery.database.episodes import EpisodeStore
from distillery.episodes import Episode
from distillery.stages.runtime.prepared_run import Prepared

_MAX_COMPARED = 8_000  # characters, as many as are kept of a user's session


def opening_digest(text: str) -> str:
    """Return a digest of a text that does not depend on blanks and line breaks."""
    return hashlib.sha256(" ".join(text[:_MAX_COMPARED].split()).encode(errors="replace")).hexdigest()


async def held_out_openings(episodes: EpisodeStore, prepared: Prepared, arms: Sequence[str]) -> frozenset[str]:
    """Return the digests of the openings of the held-out tasks, as the environment and as the agent writes them.

    Empty before an arm was evaluated.

    Args:
        episodes: of the run.
        prepared: the pinned tasks and the agent.
        arms: that are evaluated.
    """
    tasks = {task.id: task for task in prepared.tasks("evaluate")}
    digests: set[str] = set()
    for task_id, opening in await episodes.read_openings(arms=arms):
        digests.add(opening_digest(opening))
        if task := tasks.get(task_id):
            prefix = prepared.agent.build_prefix(task, opening, hints=(), examples=0)
            digests.add(opening_digest(find_initial_observation(read_text(prefix.messages[-1]))))
    return frozenset(digests)


async def find_learned_tasks(episodes: EpisodeStore, round: int, *, arm: str, learning: Collection[str]) -> set[str]:
    """Return the ids of the held-out tasks of an arm that open like a task of the learning episodes so far."""
    rounds = list(range(1, round + 1))
    played = await episodes.read(arms=[arm], rounds=[round])
    learned = await episodes.read(arms=list(learning), rounds=rounds)
    if not openings_tell_apart([*played, *learned]):
        return set()
    openings = {opening_digest(episode.initial_observation) for episode in learned if episode.initial_observation}
    return {episode.task.id for episode in played if opening_digest(episode.initial_observation) in openings}


async def held_out_test(episodes: EpisodeStore, round: int, learned: Sequence[Episode]) -> Callable[[Episode], bool]:
    """Return a test of whether an episode's task is a held-out one under another id.

    Args:
        episodes: of the run; those of the models that the rounds so far started with are compared.
        round: the present one.
        learned: all episodes that the test is for.
    """
    played = await episodes.read(arms=[BASELINE, CONFIRM_BASELINE], rounds=list(range(1, round + 1)))
    openings = {opening_digest(episode.initial_observation) for episode in played if episode.initial_observation}
    if not openings_tell_apart([*played, *learned]):
        openings.clear()
    return lambda episode: opening_digest(episode.initial_observation) in openings


def openings_tell_apart(episodes: Iterable[Episode]) -> bool:
    """Return whether no two tasks open alike and then answer the same actions differently."""
    answers: dict[str, tuple[str, str]] = {}
    for episode in episodes:
        state = opening_digest(episode.initial_observation)
        for turn in episode.turns:
            if turn.action is None:
                continue
            state = opening_digest(f"{state} {turn.action}")
            task, observation = answers.setdefault(state, (episode.task.id, turn.observation))
            if task != episode.task.id and observation != turn.observation:
                return False
    return True
