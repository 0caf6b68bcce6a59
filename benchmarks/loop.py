"""How much of its server's speed the loop leaves, and how much of its cache the loop's prompts find.

    python -m benchmarks.loop

A run on generated games is taken through the loop, as `distillery run` does it. Then a fresh vLLM of the same kind gets
the very requests of the stages that the base model played, stage by stage: as many episodes in flight, a turn after the
one before it, answers of the same lengths; but no environment, no database, no agent, and answers are not read. A stage
is timed from its first lease to its last result, prompt and completion tokens together. What the replay can't have is
the cache of replies: those it gets are not those that the next prompt holds.

A turn's prompt begins with the prompt and the reply of the turn before. At most that much can be cached, in whole
blocks of the server's cache, whose size is the greatest divisor of all hits. Turns from the second on count, of all
finished episodes of the run, where no older turns were dropped in between. The server reports the hits.
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from benchmarks.support.figures import Figure, conclude, options
from distillery.core.api import load
from distillery.core.artifacts import Identity, store_at
from distillery.core.planner.graph import BASE
from distillery.core.planner.plays import ON_POLICY, TEACHER
from distillery.database import Database
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.episodes import EpisodeStore
from distillery.database.migrate import migrate
from distillery.database.runs import RunStore
from distillery.episodes import Episode, build_history
from distillery.local.servers import Servers

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "examples" / "demo.yaml"
STAGES = {"rollout": (ON_POLICY,), "teach": (TEACHER,), "evaluate-baseline": ("baseline", "rag")}
"""What the base model plays, by stage, and the arms that are played together in it."""


WHY = (
    "without a GPU, the server shares the cores with driver, environment and database. Even with a model of a million "
    "parameters, it alone would use all of them"
)

_TURNS = """
SELECT turn.index, turn.cached_tokens AS cached, first_turn, lag(first_turn) OVER episode AS first_before,
       lag(turn.prompt_tokens + turn.completion_tokens) OVER episode AS before
FROM turn JOIN episode ON episode.id = episode_id
WHERE phase = 'finished' AND turn.cached_tokens IS NOT NULL
WINDOW episode AS (PARTITION BY episode_id ORDER BY turn.index)
"""


@dataclass(frozen=True, slots=True)
class Trace:
    """What a stage asked the server for.

    Attributes:
        episodes: in the order in which they were begun.
        tokens: of all prompts and replies.
        seconds: from the first lease to the last result.
    """

    episodes: tuple[Episode, ...]
    tokens: int
    seconds: float


async def read(database: Database, name: str) -> dict[str, Trace]:
    """The traces of a run's stages."""
    run = await RunStore(database).find(name)
    traces = {}
    for stage, arms in STAGES.items():
        episodes = {e.id: e for e in await EpisodeStore(database, run["id"]).read(arms=arms, rounds=[1])}
        rows = await database.fetch(
            "SELECT id, started_at, finished_at FROM episode WHERE id = ANY(%s) ORDER BY started_at", list(episodes)
        )
        seconds = (max(row["finished_at"] for row in rows) - rows[0]["started_at"]).total_seconds()
        tokens = sum(t.prompt_tokens + t.completion_tokens for e in episodes.values() for t in e.turns)
        traces[stage] = Trace(tuple(episodes[row["id"]] for row in rows), tokens, seconds)
    return traces


async def prefixes(database: Database) -> dict[str, int]:
    """Tokens that were found in the cache from turn 2 on, and the most that could be.

    What other episodes left in it counts for no more than that.
    """
    turns = await database.fetch(_TURNS)
    block = math.gcd(*(turn["cached"] for turn in turns)) or 1
    later = [turn for turn in turns if turn["index"] and turn["first_turn"] == turn["first_before"]]
    most = [turn["before"] // block * block for turn in later]
    hits = sum(min(turn["cached"], possible) for turn, possible in zip(later, most, strict=True))
    return {"turns": len(later), "hits": hits, "most": sum(most), "block": block}


async def replay(trace: Trace, base_url: str, model: str, *, in_flight: int) -> float:
    """Seconds that the server takes for a trace."""
    room = asyncio.Semaphore(in_flight)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(episode: Episode) -> None:
            async with room:
                for number, turn in enumerate(episode.turns):
                    body = {
                        "model": model,
                        "messages": build_history(
                            episode.prompt_prefix.messages, episode.turns[:number], turn.first_turn
                        ),
                        "max_tokens": turn.completion_tokens,
                        "ignore_eos": True,
                    }
                    async with session.post(f"{base_url}/chat/completions", json=body) as answer:
                        await answer.read()
                        answer.raise_for_status()

        started = time.monotonic()
        await asyncio.gather(*map(one, trace.episodes))
        return time.monotonic() - started


def write(path: Path, *, train: int, evaluate: int) -> Path:
    """The document of the run."""
    document = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    spec = document["spec"]
    spec["environment"] |= {"options": {"games": "generated"}}
    spec["environment"]["tasks"] |= {"train": train, "evaluate": evaluate}
    spec["models"]["student"]["model"] = str((DOCUMENT.parent / spec["models"]["student"]["model"]).resolve())
    spec["evaluation"]["arms"] = ["baseline", "rag", "distilled"]
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


async def measure(folder: Path, dsn: str, document: Path) -> dict[str, Any]:
    """Loop and replay of every stage, and the whole run's hits."""
    run = load(document)
    async with Database(dsn) as database:
        traces, cache = await read(database, run.metadata.name), await prefixes(database)
    store = store_at(
        folder.as_uri(), Identity("none", "0" * 64), cache=folder / "cache"
    )  # the base model asks nothing of it
    servers = Servers(run.spec, store, folder / "server.log")
    try:
        server = await servers.serve(BASE)
        await replay(_first(traces["rollout"]), server.base_url, server.model, in_flight=8)  # warms up
        stages = [
            {
                "stage": stage,
                "episodes": len(trace.episodes),
                "tokens": trace.tokens,
                "loop": trace.seconds,
                "replay": await replay(trace, server.base_url, server.model, in_flight=run.spec.rollout.concurrency),
            }
            for stage, trace in traces.items()
        ]
        return {"stages": stages, "cache": cache}
    finally:
        await servers.stop()


def _first(trace: Trace) -> Trace:
    return Trace(trace.episodes[:8], 0, 0.0)


def figures(stages: Sequence[dict[str, Any]], cache: dict[str, int], *, room: float) -> list[Figure]:
    """Speed of all stages together and of each, and the share of the cache."""
    found = f"{cache['turns']:,} turns, {cache['hits']:,} of {cache['most']:,} tokens, blocks of {cache['block']}"
    share = cache["hits"] / max(1, cache["most"])
    every = {key: sum(stage[key] for stage in stages) for key in ("episodes", "tokens", "loop", "replay")}
    what = "tokens/s, the loop / raw replay"
    return [
        Figure(
            f"{what}, all stages of the base model",
            every["replay"] / every["loop"],
            _describe_counts(every),
            least=0.9,
            room=room,
            note=WHY,
        ),
        *(
            Figure(f"{what}, {stage['stage']}", stage["replay"] / stage["loop"], _describe_counts(stage))
            for stage in stages
        ),
        Figure("prefix-cache hits / append-only maximum, from turn 2 on", share, found, least=0.98, room=1.02),
    ]


def _describe_counts(stage: dict[str, Any]) -> str:
    return (
        f"{stage['episodes']:,} episodes, {stage['tokens']:,} tokens, {stage['loop']:.0f} and {stage['replay']:.0f} s"
    )


def main() -> None:
    """Play, replay, and tell."""
    chosen = options(__doc__).parse_args()
    train, evaluate = (32, 16) if chosen.short else (300, 200)
    with tempfile.TemporaryDirectory(prefix="distillery-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # for the user that Postgres runs as
        document = write(folder / "run.yaml", train=train, evaluate=evaluate)
        with EmbeddedPostgres(folder / "pg") as postgres:
            migrate(postgres.dsn)
            environment = {**os.environ, "DISTILLERY_HOME": str(folder), "DISTILLERY_DATABASE_URL": postgres.dsn}
            subprocess.run([Path(sys.executable).with_name("distillery"), "run", document], env=environment, check=True)
            found = asyncio.run(measure(folder, postgres.dsn, document))
    # of a stage of seconds, its start and its last episodes are a good part
    conclude("loop", figures(**found, room=2.5 if chosen.short else 1.25), chosen, found)


if __name__ == "__main__":
    main()
