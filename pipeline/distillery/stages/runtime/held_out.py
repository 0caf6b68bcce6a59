"""The held-out tasks by their content: nothing is learned from them, whatever they are called.

Before a task is played nothing is known of it but its goal (stage prepare compares goals where they tell tasks apart).
Afterwards its opening is known. Two tasks that open alike are taken for the same, unless tasks of this environment were
seen to open alike and to answer the same actions differently: then openings hide what tells tasks apart, and prove
nothing. A user's session of a task that opens like a held-out one is left out in any case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from distillery.agents.chat import opening_of
from distillery.core.planner.graph import BASELINE, OWN, PLACEBO_TEACHER, TEACHER
from distillery.database.episodes import read_episodes, read_openings
from distillery.episodes import Episode
from distillery.stages.runtime.runner import StageContext

_COMPARED = 8_000  # characters, as many as are kept of a user's session


def opening_digest(text: str) -> str:
    """Return a digest of a text that does not depend on blanks and line breaks."""
    return hashlib.sha256(" ".join(text[:_COMPARED].split()).encode(errors="replace")).hexdigest()


async def held_out_openings(context: StageContext) -> frozenset[str]:
    """Return the digests of the openings of the held-out tasks, as the environment and as the agent writes them.

    Empty before an arm was evaluated.
    """
    tasks = {task.id: task for task in context.pinned("evaluate")}
    arms = list(context.spec.evaluation.arms)
    found: set[str] = set()
    for task_id, opening in await read_openings(context.database, context.run_id, arms=arms):
        found.add(opening_digest(opening))
        if task := tasks.get(task_id):
            head = context.agent.head(task, opening, hints=(), examples=0)
            found.add(opening_digest(opening_of(head.messages[-1]["content"])))
    return frozenset(found)


async def learned_from(context: StageContext) -> set[str]:
    """Return the ids of this round's held-out tasks that open like a task of the rounds' learning episodes so far."""
    rounds = list(range(1, context.round + 1))
    arms = [OWN, TEACHER, PLACEBO_TEACHER]
    played = await read_episodes(context.database, context.run_id, arms=[BASELINE], rounds=[context.round])
    learned = await read_episodes(context.database, context.run_id, arms=arms, rounds=rounds)
    if not openings_tell_apart([*played, *learned]):
        return set()
    openings = {opening_digest(episode.opening) for episode in learned if episode.opening}
    return {episode.task.id for episode in played if opening_digest(episode.opening) in openings}


async def held_out_test(context: StageContext, learned: Sequence[Episode]) -> Callable[[Episode], bool]:
    """Return a test of whether an episode's task is a held-out one under another id.

    Args:
        context: of a stage of a round; what base played in the rounds so far is compared.
        learned: all episodes that the test is for.
    """
    rounds = list(range(1, context.round + 1))
    played = await read_episodes(context.database, context.run_id, arms=[BASELINE], rounds=rounds)
    openings = {opening_digest(episode.opening) for episode in played if episode.opening}
    if not openings_tell_apart([*played, *learned]):
        openings.clear()
    return lambda episode: opening_digest(episode.opening) in openings


def openings_tell_apart(episodes: Iterable[Episode]) -> bool:
    """Return whether no two tasks open alike and then answer the same actions differently."""
    answers: dict[str, tuple[str, str]] = {}
    for episode in episodes:
        state = opening_digest(episode.opening)
        for turn in episode.turns:
            if turn.action is None:
                continue
            state = opening_digest(f"{state} {turn.action}")
            task, observation = answers.setdefault(state, (episode.task.id, turn.observation))
            if task != episode.task.id and observation != turn.observation:
                return False
    return True
