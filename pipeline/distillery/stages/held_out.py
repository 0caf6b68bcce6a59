"""The held-out tasks by their content: nothing is learned from them, whatever they are called.

A task is what its opening says: that is all an agent reads of it. Openings are known once a task was played, so that
the comparison uses those of the arms that were evaluated.
"""

from __future__ import annotations

import hashlib

from distillery.agents.chat import opening_of
from distillery.database.episodes import read_openings
from distillery.stages.runner import StageContext

_COMPARED = 8_000  # characters, as many as are kept of a user's session


def opening_digest(text: str) -> str:
    """A digest of a text that does not depend on blanks and line breaks."""
    return hashlib.sha256(" ".join(text[:_COMPARED].split()).encode(errors="replace")).hexdigest()


async def held_out_openings(context: StageContext) -> frozenset[str]:
    """The digests of the openings of the held-out tasks, as the environment and as the agent writes them.

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
