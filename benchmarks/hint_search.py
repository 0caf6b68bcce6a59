"""Filtered search in a hint bank of 100,000 hints: what is found, how long it takes, and pgvector's defaults beside it.

    python -m benchmarks.hint_search                    minutes, most of them for the index
    python -m benchmarks.hint_search --hints 1000000    an hour, and 4 GB of disk

Hints have seeded vectors around a thousand centres and one of thirty categories each, drawn apart from the vectors: the
filter leaves one neighbour in thirty, which is hard for HNSW. Queries are near to centres too. The search is the bank's
own (``HintBank.nearest``), in an embedded Postgres with the product's schema and indices; beside it the same query
without the bank's settings. Recall is the share of the 3 nearest by exact search, in the precision that is stored.
Times are wall times of one search after the other, the transaction included.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector

from benchmarks.figures import Figure, conclude, options
from distillery.database import Database
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.migrate import migrate
from distillery.hints import bank as product
from distillery.hints.bank import HintBank
from distillery.hints.embed import DIMENSIONS

CATEGORIES, CENTRES, K = 30, 1000, 3
SPREAD = 0.06
"""Of a vector's components around its centre's, which are of the size of 1 / sqrt(384) = 0.05."""

Vectors = NDArray[np.float32]


def vectors(count: int, rng: np.random.Generator, centres: Vectors) -> Vectors:
    """Unit vectors around centres drawn at random, rounded as halfvec rounds."""
    made = centres[rng.integers(len(centres), size=count)] + SPREAD * rng.standard_normal((count, DIMENSIONS))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float16).astype(np.float32)


def fill(dsn: str, hints: Vectors, categories: NDArray[np.int64]) -> float:
    """Write the hints, then build the product's index on them; the seconds that the index took."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'hint_embedding'").fetchone()
        assert row is not None
        connection.execute("DROP INDEX hint_embedding")
        columns = "bank, environment, agent, category, text, round, extractor, embedding"
        with connection.cursor().copy(f"COPY hint ({columns}) FROM STDIN".encode()) as copy:
            for number, (vector, category) in enumerate(zip(hints, categories, strict=True)):
                text = f"Hint {number}: where {{object}} is kept."
                copy.write_row(("b", "e", "a", f"c{category}", text, 1, "miner", HalfVector(vector).to_text()))
        start = time.monotonic()
        connection.execute("SET maintenance_work_mem = '2GB'")
        connection.execute("SET max_parallel_maintenance_workers = 0")  # an embedded server's shared memory is small
        connection.execute(row[0])
        connection.execute("ANALYZE hint")
        return time.monotonic() - start


def exact(hints: Vectors, categories: NDArray[np.int64], queries: Vectors, asked: NDArray[np.int64]) -> list[set[int]]:
    """The ids of the nearest hints of each query's category. Ids count from 1."""
    found = []
    for query, category in zip(queries, asked, strict=True):
        members = np.flatnonzero(categories == category)
        # cosine distance: halves are not quite unit vectors
        distances = -(hints[members] @ query) / np.linalg.norm(hints[members], axis=1)
        found.append({int(members[i]) + 1 for i in np.argsort(distances)[:K]})
    return found


async def search(
    dsn: str, queries: Vectors, asked: Sequence[int], nearest: Sequence[set[int]]
) -> tuple[float, list[float], float]:
    """Recall, the milliseconds of every search, and how many hints a search found on average."""
    recalls, times, found = [], [], []
    async with Database(dsn) as database:
        bank = HintBank(database, bank="b", environment="e", agent="a")
        for query, category, wanted in zip(queries, asked, nearest, strict=True):
            notation = HalfVector(query).to_text()
            start = time.monotonic()
            hints = await bank.nearest(notation, f"c{category}", K)
            times.append(1e3 * (time.monotonic() - start))
            found.append(len(hints))
            recalls.append(len(wanted & {hint.id for hint in hints}) / K)
    return statistics.mean(recalls), times, statistics.mean(found)


def main() -> None:
    """Fill, and search both ways, in turn."""
    parser = options(__doc__)
    parser.add_argument("--hints", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1000)
    chosen = parser.parse_args()
    count, number = (10_000, 200) if chosen.short else (chosen.hints, chosen.queries)
    rng = np.random.default_rng(0)
    centres = (rng.standard_normal((CENTRES, DIMENSIONS)) / np.sqrt(DIMENSIONS)).astype(np.float32)
    hints, categories = vectors(count, rng, centres), rng.integers(CATEGORIES, size=count)
    queries, asked = vectors(number, rng, centres), rng.integers(CATEGORIES, size=number)
    nearest = exact(hints, categories, queries, asked)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="distillery-bench-") as folder:
        Path(folder).chmod(0o755)  # for the user that Postgres runs as
        with EmbeddedPostgres(Path(folder) / "pg") as postgres:
            migrate(postgres.dsn)
            built = fill(postgres.dsn, hints, categories)
            for name, settings in (("warm-up", product._SEARCH_SETTINGS), ("ours", None), ("defaults", ())):
                used = product._SEARCH_SETTINGS if settings is None else settings
                with mock.patch.object(product, "_SEARCH_SETTINGS", used):
                    recall, times, found = asyncio.run(search(postgres.dsn, queries, asked.tolist(), nearest))
                quantiles = {f"p{p}": float(np.percentile(times, p)) for p in (50, 95, 99)}
                results[name] = {"recall": recall, "found": found, **quantiles}
    n = f"{number:,} searches among {count:,} hints, a filter of 1 in {CATEGORIES}"
    ours, defaults = results["ours"], results["defaults"]
    million = count >= 1_000_000
    figures = [
        Figure("recall of the 3 nearest", ours["recall"], n, least=0.99, room=1.01),
        Figure("recall of the 3 nearest, pgvector's defaults", defaults["recall"], n),
        Figure("hints found of the 3 asked for, pgvector's defaults", defaults["found"], n),
        Figure("a search, p50", ours["p50"], n, unit="ms"),
        Figure("a search, p95", ours["p95"], n, unit="ms", most=55 if million else None, room=4),
        Figure("a search, p99", ours["p99"], n, unit="ms", most=None if million else 30, room=4),
        Figure("a search, p50, pgvector's defaults", defaults["p50"], n, unit="ms"),
    ]
    conclude("hint_search", figures, chosen, {**results, "indexSeconds": built})


if __name__ == "__main__":
    main()
