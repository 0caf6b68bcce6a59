"""Stage hints: failed episodes, of training tasks and of users, become hints in the bank.

python -m distillery.stages.hints CONFIG
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping

from distillery.core import plugins
from distillery.core.planner.graph import LIVE, OWN
from distillery.database.episodes import read_episodes
from distillery.database.sessions import add_episodes, claim
from distillery.episodes import Episode
from distillery.feedback.episodes import Unreadable, episode_of, of_category
from distillery.hints.base import EVERY_CATEGORY, ExtractionContext
from distillery.hints.categories import likest
from distillery.stages.runtime.held_out import held_out_openings, held_out_test, opening_digest
from distillery.stages.runtime.runner import Result, StageContext, StageFailure, run_stage, secret

_MAX_LIVE = 1_000  # sessions that a round takes; each may have half a megabyte, and all are in memory at once

_log = logging.getLogger(__name__)


async def main(context: StageContext) -> tuple[Result, None]:
    """Extract from the failures of all rounds so far; add to the bank."""
    spec = context.spec
    held_out = await held_out_openings(context)
    live = await _take_over_live(context, held_out)
    rounds = range(1, context.round + 1)
    # further attempts of own play are for its student alone: hints come from one try at each task
    read = await read_episodes(context.database, context.run_id, arms=[OWN, LIVE], rounds=list(rounds))
    is_held_out = await held_out_test(context, [episode for episode in read if episode.arm == OWN])
    episodes = [episode for episode in read if episode.seed == 0 and not is_held_out(episode)]
    failures = [episode for episode in episodes if not episode.success and episode.turns]

    source = spec.models.extractor
    key = source.endpoint.api_key_secret_ref if source else None
    extraction = ExtractionContext(
        spec=spec,
        environment=context.environment,
        database=context.database,
        api_key=secret((key.name, key.key) if key else None),
        report=lambda done, total: context.report(done, total, "failures"),
        successes=[episode for episode in episodes if episode.success],
    )
    name = spec.hints.extractor or ("llm" if source else "rules")
    extractor = plugins.load("extractors", name)(extraction)
    mentions = await extractor.extract(failures)
    counts = await context.bank.add(
        mentions, round=context.round, extractor=name, model=extractor.model, similarity=spec.hints.dedup_threshold
    )
    # while the model is loaded: the goals that hints will be looked up by
    await context.bank.embedder.vectors(
        [task.goal for purpose in ("train", "evaluate") for task in context.pinned(purpose)]
    )
    unusable = await context.database.fetch(
        """SELECT count(*) AS n FROM extraction JOIN episode ON episode.id = episode_id
           WHERE run_id = %s AND problem <> ''""",
        context.run_id,
    )
    if counts["hints"] == 0:
        raise StageFailure(
            f"{len(failures)} of {len(episodes)} episodes failed and gave no hint "
            f"({unusable[0]['n']} unusable replies, kept in the table extraction): there is nothing to distil"
            + ("; give spec.models.extractor, which reads failures by a language model" if name == "rules" else "")
        )
    return {
        "failures": len(failures),
        "heldOut": sum(episode.seed == 0 for episode in read) - len(episodes),
        "live": live,
        "unusableReplies": unusable[0]["n"],
        "extractor": name,
        **counts,
    }, None


async def _take_over_live(context: StageContext, held_out: Collection[str]) -> Mapping[str, int]:
    """Claim users' failures for this round, and keep them as its episodes; how many, and why others are left out.

    Sessions of held-out tasks are left out (``heldOut``): hints of them would make the next verdict worthless. Which
    tasks these are is known once they were played, so that sessions wait until a round has evaluated an arm.

    There are as many as clients like. What is drawn from costs calls of the extractor, so no more are taken than the
    round was to wait for, or than it has tasks; the rest is left to later rounds.
    """
    spec = context.spec
    if not held_out:
        _log.info("sessions of users wait for the next round: no held-out task was played yet to tell them from")
        return {}
    wanted = max(spec.environment.tasks.train, spec.rounds.trigger.min_failures if spec.rounds.trigger else 0)
    most = min(wanted, _MAX_LIVE)
    counts: Counter[str] = Counter()
    read: list[Episode] = []
    times = []
    for session in await claim(context.database, context.run_id, context.round, most=most):
        counts["claimed"] += 1
        try:
            episode = episode_of(session, context.agent, context.environment)
        except Unreadable as error:
            counts[error.reason] += 1
            continue
        if opening_digest(episode.opening) in held_out:
            counts["heldOut"] += 1
            continue
        read.append(episode)
        times.append(session.exchange.time)
    if counts["heldOut"]:
        _log.warning("%d sessions of users are of held-out tasks and left out", counts["heldOut"])
    if read:
        pinned = context.pinned("train")
        goals = [episode.task.goal for episode in read if episode.task.goal]
        vectors = await context.bank.embedder.vectors([*goals, *(task.goal for task in pinned)])
        categories = dict(zip(goals, likest(goals, pinned, vectors), strict=True))
        read = [of_category(episode, categories.get(episode.task.goal, EVERY_CATEGORY)) for episode in read]
        await add_episodes(context.database, context.run_id, context.round, list(zip(read, times, strict=True)))
    return counts


if __name__ == "__main__":
    run_stage(main)
