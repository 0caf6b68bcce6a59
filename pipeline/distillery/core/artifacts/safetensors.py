"""Files of weights, looked at without torch: the format is a header of JSON and raw bytes.

https://huggingface.co/docs/safetensors: eight bytes with the header's length, the header, the tensors' bytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from distillery.core.artifacts.base import ArtifactError

_MAX_HEADER = 100_000_000  # bytes; the format's own limit
_BLOCK = 1 << 20


def digest_of_weights(path: Path) -> str:
    """Return the SHA-256 over names, types, shapes and values, in the order of names. Other header entries are ignored.

    Raises:
        ArtifactError: the file is not of this format, or was cut.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 0 < size <= _MAX_HEADER:
                raise ValueError("its header has no sane length")
            header: dict[str, Any] = json.loads(file.read(size))
            header.pop("__metadata__", None)
            digest = hashlib.sha256()
            for name, entry in sorted(header.items()):
                begin, end = entry["data_offsets"]
                digest.update(f"{name} {entry['dtype']} {list(entry['shape'])}\n".encode())
                file.seek(8 + size + begin)
                left = end - begin
                while left:
                    block = file.read(min(left, _BLOCK))
                    if not block:
                        raise ValueError("it was cut")
                    digest.update(block)
                    left -= len(block)
            return digest.hexdigest()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is no whole safetensors file: {error}") from error
