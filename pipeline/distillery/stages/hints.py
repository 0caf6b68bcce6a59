"""Stage hints: failed episodes, of training tasks and of users, become hints in the bank.

python -m distillery.stages.hints CONFIG
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from distillery.core import plugins
from distillery.core.api import Spec
from distillery.core.planner.plays import CONFIRMING_ARMS, ON_POLICY, PRODUCTION
from distillery.database.extractions import ExtractionStore
from distillery.database.sessions import SessionStore
from distillery.episodes import Episode
from distillery.feedback.episodes import Unreadable, build_episode, set_category
from distillery.hints.base import EVERY_CATEGORY, ExtractionContext
from distillery.hints.categories import nearest_categories
from distillery.preflight.facts import extractor_of
from distillery.stages.runtime.context import StageContext, read_api_key
from distillery.stages.runtime.failures import StageFailure
from distillery.stages.runtime.held_out import held_out_openings, held_out_test, opening_digest
from distillery.stages.runtime.runner import Result, run_stage

_MAX_SESSIONS = 1_000  # that a round takes; each may have half a megabyte, and all are in memory together

_log = logging.getLogger(__name__)


async def main(context: StageContext) -> tuple[Result, None]:
    """Extract from the failures of all rounds so far; add to the bank."""
    spec, bank = context.spec, context.bank
    held_out = await held_out_openings(context.episodes, context.prepared, (*spec.evaluation.arms, *CONFIRMING_ARMS))
    imported = await _import_sessions(context, held_out)
    # further attempts of own play are for its student alone: hints come from one try at each task
    rounds = list(range(1, context.round + 1))
    read = await context.episodes.read(arms=[ON_POLICY, PRODUCTION], rounds=rounds, copies=False)
    is_held_out = await held_out_test(
        context.episodes, context.round, [episode for episode in read if episode.arm == ON_POLICY]
    )
    episodes = [episode for episode in read if episode.seed == 0 and not is_held_out(episode)]
    failures = [episode for episode in episodes if not episode.success and episode.turns]

    name = extractor_of(spec)
    extractor = plugins.load("extractors", name)(_extraction(context, episodes))
    candidates = await extractor.extract(failures)
    counts = await bank.add(
        candidates, round=context.round, extractor=name, model=extractor.model, similarity=spec.hints.dedup_threshold
    )
    # while the model is loaded: the goals that hints will be looked up by
    await bank.embedder.vectors(
        [task.goal for purpose in ("train", "evaluate") for task in context.prepared.tasks(purpose)]
    )
    unusable = await ExtractionStore(context.database).count_unusable(context.run_id)
    if counts["hints"] == 0:
        raise StageFailure(
            f"{len(failures)} of {len(episodes)} episodes failed and gave no hint "
            f"({unusable} unusable replies, kept in the table extraction): there is nothing to distil"
            + ("; give spec.models.extractor, which reads failures by a language model" if name == "rules" else "")
        )
    return {
        "failures": len(failures),
        "heldOut": sum(episode.seed == 0 for episode in read) - len(episodes),
        "live": imported,
        "unusableReplies": unusable,
        "extractor": name,
        **counts,
    }, None


def _extraction(context: StageContext, episodes: Sequence[Episode]) -> ExtractionContext:
    """Return the inputs of the extractor."""
    source = context.spec.models.extractor
    key = source.endpoint.api_key_secret_ref if source else None
    return ExtractionContext(
        spec=context.spec,
        environment=context.prepared.environment,
        database=context.database,
        api_key=read_api_key((key.name, key.key) if key else None),
        report=lambda done, total: context.progress.report(done, total, "failures"),
        successes=[episode for episode in episodes if episode.success],
    )


async def _import_sessions(context: StageContext, held_out: Collection[str]) -> Mapping[str, int]:
    """Claim users' failures for this round and store them as its episodes; return counts, also by reason left out.

    Sessions of held-out tasks are left out (``heldOut``): hints of them would make the next verdict worthless. These
    tasks are known by their openings once they were played, so sessions wait until a round has evaluated an arm.
    """
    if not held_out:
        _log.info("sessions of users wait for the next round: no held-out task was played yet to tell them from")
        return {}
    counts: Counter[str] = Counter()
    episodes: list[tuple[Episode, datetime]] = []
    sessions = SessionStore(context.database, context.run_id)
    for session in await sessions.claim(context.round, max_sessions=_max_sessions(context.spec)):
        counts["claimed"] += 1
        try:
            episode = build_episode(session, context.prepared.agent, context.prepared.environment)
        except Unreadable as error:
            counts[error.reason] += 1
            continue
        if opening_digest(episode.initial_observation) in held_out:
            counts["heldOut"] += 1
            continue
        episodes.append((episode, session.request.time))
    if counts["heldOut"]:
        _log.warning("%d sessions of users are of held-out tasks and left out", counts["heldOut"])
    if episodes:
        await context.episodes.add(context.round, await _categorize(context, episodes))
    return counts


def _max_sessions(spec: Spec) -> int:
    """Return how many sessions a round takes.

    There are as many as clients like, and the extractor costs a call for each. So a round takes no more than it waits
    for, or than it has tasks; the others are left to later rounds.
    """
    trigger = spec.rounds.trigger.min_failures if spec.rounds.trigger else 0
    return min(max(spec.environment.tasks.train, trigger), _MAX_SESSIONS)


async def _categorize(
    context: StageContext, episodes: Sequence[tuple[Episode, datetime]]
) -> list[tuple[Episode, datetime]]:
    """Return the episodes, each in the category of the training task whose goal is most similar."""
    pinned = context.prepared.tasks("train")
    goals = [episode.task.goal for episode, _ in episodes if episode.task.goal]
    vectors = await context.bank.embedder.vectors([*goals, *(task.goal for task in pinned)])
    categories = dict(zip(goals, nearest_categories(goals, pinned, vectors), strict=True))
    return [
        (set_category(episode, categories.get(episode.task.goal, EVERY_CATEGORY)), time) for episode, time in episodes
    ]


if __name__ == "__main__":
    run_stage(main)
