"""Filtered search in a hint bank of 100,000 hints: recall and time, next to pgvector's defaults.

    python -m benchmarks.hint_search                    minutes, most of them for the index
    python -m benchmarks.hint_search --hints 1000000    a quarter of an hour or more, 10 GB of memory, 4 GB of disk

Hints have seeded vectors around a thousand centers and one of thirty categories each, drawn apart from the vectors: the
filter leaves three hints of a center, which is as hard as it gets for HNSW. Queries are near to centers too. The search
is the bank's own (``HintBank.nearest``), in an embedded Postgres with the product's schema and indices: it compares all
that the filter leaves where they are few, as they are among 100,000. Next to it is the way that it takes where they are
many, as among a million, by the HNSW index with the bank's settings, and the same query with pgvector's default
settings. Recall is the share of the 3 nearest by exact search, in the precision that is stored. Times are wall times of
one search after the other, the transaction included, on a connection that has searched before; the three ways take
turns.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector

from benchmarks.support.figures import Figure, conclude, options
from distillery.database import Database
from distillery.database import hints as product
from distillery.database.embedded import EmbeddedPostgres
from distillery.database.migrate import migrate
from distillery.hints.bank import HintBank
from distillery.hints.embedder import DIMENSIONS

CATEGORIES, CENTERS, K = 30, 1000, 3
SPREAD = 0.06
"""Of a vector's components around its center's, which are of the size of 1 / sqrt(384) = 0.05."""

OURS = "as in the hint bank"
WAYS: dict[str, dict[str, Any]] = {
    OURS: {"_MAX_EXACT": product._MAX_EXACT},
    "with HNSW, as in large hint banks": {"_MAX_EXACT": 0},
    "with HNSW and pgvector's defaults": {"_MAX_EXACT": 0, "_APPROXIMATE": ()},
}
"""What of the product's module is replaced."""

_TURN, _UNTIMED = 50, 5
"""Searches of a way before the next takes its turn, and searches before those, on the new connection."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Search:
    """One search: its recall, how many hints it found, and how long it took."""

    recall: float
    found: int
    milliseconds: float


def vectors(count: int, rng: np.random.Generator, centers: Vectors) -> Vectors:
    """Unit vectors around centers drawn at random, rounded as halfvec rounds."""
    made = centers[rng.integers(len(centers), size=count)] + SPREAD * rng.standard_normal((count, DIMENSIONS))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float16).astype(np.float32)


def fill(dsn: str, hints: Vectors, categories: NDArray[np.int64]) -> None:
    """Write the hints, then build the product's index on them."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'hint_embedding'").fetchone()
        assert row is not None
        connection.execute("DROP INDEX hint_embedding")
        columns = "bank, environment, agent, category, text, round, extractor, embedding"
        with connection.cursor().copy(f"COPY hint ({columns}) FROM STDIN".encode()) as copy:
            for number, (vector, category) in enumerate(zip(hints, categories, strict=True)):
                text = f"Hint {number}: where {{object}} is kept."
                copy.write_row(("b", "e", "a", f"c{category}", text, 1, "rules", HalfVector(vector).to_text()))
        connection.execute("SET maintenance_work_mem = '2GB'")
        connection.execute("SET max_parallel_maintenance_workers = 0")  # an embedded server's shared memory is small
        connection.execute(row[0])
        connection.execute("VACUUM ANALYZE hint")


def exact(hints: Vectors, categories: NDArray[np.int64], queries: Vectors, asked: NDArray[np.int64]) -> list[set[int]]:
    """The ids of the nearest hints of each query's category. Ids count from 1."""
    found = []
    for query, category in zip(queries, asked, strict=True):
        members = np.flatnonzero(categories == category)
        # cosine distance: halves are not quite unit vectors
        distances = -(hints[members] @ query) / np.linalg.norm(hints[members], axis=1)
        found.append({int(members[i]) + 1 for i in np.argsort(distances)[:K]})
    return found


async def search(dsn: str, searches: Sequence[tuple[Vectors, int, set[int]]]) -> list[Search]:
    """Look for the nearest hints of (vector, category, ids of the nearest)."""
    made = []
    async with Database(dsn) as database:
        bank = HintBank(database, bank="b", environment="e", agent="a")
        for query, category, _ in searches[:_UNTIMED]:
            await bank.nearest(HalfVector(query).to_text(), f"c{category}", K)
        for query, category, wanted in searches:
            notation = HalfVector(query).to_text()
            start = time.monotonic()
            hints = await bank.nearest(notation, f"c{category}", K)
            milliseconds = 1e3 * (time.monotonic() - start)
            made.append(Search(len(wanted & {hint.id for hint in hints}) / K, len(hints), milliseconds))
    return made


def main() -> None:
    """Fill, and search in all ways, in turn."""
    parser = options(__doc__)
    parser.add_argument("--hints", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="keep the database there; one that is there already is used")
    chosen = parser.parse_args()
    count, number = (10_000, 100) if chosen.short else (chosen.hints, chosen.queries)
    rng = np.random.default_rng(0)
    centers = (rng.standard_normal((CENTERS, DIMENSIONS)) / np.sqrt(DIMENSIONS)).astype(np.float32)
    hints, categories = vectors(count, rng, centers), rng.integers(CATEGORIES, size=count)
    queries, asked = vectors(number, rng, centers), rng.integers(CATEGORIES, size=number)
    nearest = exact(hints, categories, queries, asked)
    searches = list(zip(queries, asked.tolist(), nearest, strict=True))
    results: dict[str, list[Search]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="distillery-bench-") as scratch:
        folder = chosen.folder or Path(scratch)
        Path(scratch).chmod(0o755)  # for the user that Postgres runs as
        there = (folder / "pg").exists()
        with EmbeddedPostgres(folder / "pg") as postgres:
            if not there:
                migrate(postgres.dsn)
                fill(postgres.dsn, hints, categories)
            for start in range(0, number, _TURN):
                for way, settings in WAYS.items():
                    with mock.patch.multiple(product, **settings):
                        results[way] += asyncio.run(search(postgres.dsn, searches[start : start + _TURN]))
    n = f"{number:,} searches among {count:,} hints, a filter of 1 in {CATEGORIES}"
    million = count >= 1_000_000
    figures = []
    for way, found in results.items():
        ours = way == OURS
        recall = statistics.mean(one.recall for one in found)
        p50, p95, p99 = np.percentile([one.milliseconds for one in found], (50, 95, 99)).tolist()
        figures += [
            Figure(
                f"recall of the 3 nearest, {way}", recall, n, least=0.99 if ours and not million else None, room=1.01
            ),
            Figure(f"hints found of 3 requested, {way}", statistics.mean(one.found for one in found), n),
            Figure(f"search time, p50, {way}", p50, n, unit="ms"),
            Figure(f"search time, p95, {way}", p95, n, unit="ms", most=55 if ours and million else None, room=10),
            Figure(f"search time, p99, {way}", p99, n, unit="ms", most=30 if ours and not million else None, room=10),
        ]
    name = "hint_search_million" if million else "hint_search"
    conclude(name, figures, chosen, {way: [asdict(one) for one in found] for way, found in results.items()})


if __name__ == "__main__":
    main()
