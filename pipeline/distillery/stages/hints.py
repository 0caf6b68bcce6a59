"""Stage hints: failed episodes become hints in the bank.

python -m distillery.stages.hints CONFIG
"""

from __future__ import annotations

from distillery import plugins
from distillery.database.episodes import read_episodes
from distillery.hints.base import ExtractionContext
from distillery.planning.stages import OWN
from distillery.stages.runner import Result, StageContext, StageFailure, run_stage, secret


async def main(context: StageContext) -> tuple[Result, None]:
    """Extract from the failures of all rounds so far; add to the bank."""
    spec = context.spec
    rounds = range(1, context.round + 1)
    episodes = await read_episodes(context.database, context.run_id, arms=[OWN], rounds=list(rounds))
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
    name = spec.hints.extractor or ("llm" if source else "miner")
    extractor = plugins.load("extractors", name)(extraction)
    mentions = await extractor.extract(failures)
    counts = await context.bank.add(
        mentions, round=context.round, extractor=name, model=extractor.model, similarity=spec.hints.similarity
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
            f"{len(failures)} of {len(episodes)} training episodes failed and gave no hint "
            f"({unusable[0]['n']} unusable replies, kept in the table extraction): there is nothing to distil"
        )
    return {"failures": len(failures), "unusableReplies": unusable[0]["n"], "extractor": name, **counts}, None


if __name__ == "__main__":
    run_stage(main)
