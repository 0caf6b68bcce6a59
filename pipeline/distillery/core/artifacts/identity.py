"""The identity of a run as far as its artifacts are concerned: who it is, and what it learns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

_FORM = re.compile(r"(.+)-([0-9a-f]{12,})")


@dataclass(frozen=True, slots=True)
class Identity:
    """The run that artifacts belong to. Two runs of one name differ in it, and so does one run before and after a
    change of what it learns.

    Attributes:
        uid: ``metadata.uid`` on a cluster; on one machine, the one that the database gave the run.
        digest: of what the run learns; see :func:`distillery.core.api.learned.digest_of_learned`.
    """

    uid: str
    digest: str

    @property
    def key(self) -> str:
        """The folder of the run's artifacts, below the prefix of all runs of its name."""
        return f"{self.uid[:8]}-{self.digest[:12]}"

    def wrote(self, manifest: Mapping[str, Any] | None) -> bool:
        """Return whether this run wrote a stage's result. Results from before identities name no run, and count."""
        return manifest is None or manifest.get("run", str(self)) == str(self)

    def __str__(self) -> str:
        """Return the form in manifests and on command lines."""
        return f"{self.uid}-{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` wrote. Raises ValueError."""
        matched = _FORM.fullmatch(text)
        if matched is None:
            raise ValueError(f"{text!r} is not the identity of a run: write UID-DIGEST")
        return cls(*matched.groups())
