"""Prefix-cache hits of a run that was played, as a share of what prompts that only grow allow.

    python -m benchmarks.prefix_cache alfworld-micro      a run of $DISTILLERY_HOME

A turn's prompt begins with the prompt and the reply of the turn before. At most that much can be cached, in whole
blocks of the server's cache, whose size is the greatest divisor of all hits. Turns from the second on of finished
episodes count, where no older turns were dropped in between. Hits are what the server told of each request.
"""

from __future__ import annotations

import math
from typing import Any

import psycopg
from psycopg.rows import dict_row

from benchmarks.figures import Figure, conclude, options
from distillery.executors import home

_TURNS = """
SELECT arm, index, turn.cached_tokens AS cached, first_turn,
       lag(first_turn) OVER episode AS first_before,
       lag(turn.prompt_tokens + turn.completion_tokens) OVER episode AS before
FROM turn JOIN episode ON episode.id = episode_id JOIN run ON run.id = run_id
WHERE run.key = %s AND phase = 'finished' AND turn.cached_tokens IS NOT NULL
WINDOW episode AS (PARTITION BY episode_id ORDER BY index)
"""


def share(turns: list[dict[str, Any]], block: int) -> tuple[float, int, int]:
    """Hits as a share of the maximum, hits, maximum; what other episodes left in the cache is no more than that."""
    most = [turn["before"] // block * block for turn in turns]
    hits = sum(min(turn["cached"], possible) for turn, possible in zip(turns, most, strict=True))
    return hits / max(1, sum(most)), hits, sum(most)


def main() -> None:
    """Read the run."""
    parser = options(__doc__)
    parser.add_argument("run", help="NAME or NAMESPACE/NAME")
    chosen = parser.parse_args()
    key = chosen.run if "/" in chosen.run else f"default/{chosen.run}"
    with home.database() as (dsn, _), psycopg.connect(dsn) as connection:
        turns = connection.cursor(row_factory=dict_row).execute(_TURNS, (key,)).fetchall()
    block = math.gcd(*(turn["cached"] for turn in turns))
    later = [turn for turn in turns if turn["index"] and turn["first_turn"] == turn["first_before"]]
    if not block or not later:
        parser.error(f"no hit is recorded of run {key}")
    found, hits, most = share(later, block)
    arms = {arm: share([t for t in later if t["arm"] == arm], block)[0] for arm in {t["arm"] for t in later}}
    n = f"{len(later):,} turns, {hits:,} of {most:,} tokens, blocks of {block}"
    figures = [Figure("prefix-cache hits / append-only maximum, from turn 2 on", found, n, least=0.98, room=1.02)]
    conclude("prefix_cache", figures, chosen, {"run": key, "arms": arms})


if __name__ == "__main__":
    main()
