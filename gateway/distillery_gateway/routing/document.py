"""The routing document: the adapters that vLLM is to hold, and the target of each name.

The operator writes it into a ConfigMap; the kubelet makes a file of it, whose change the gateway and the syncer
notice. Names of adapters are made of their digests, so that a name never means two things.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

MAX_FIRST_TOKEN_SECONDS = 10.0
"""The default for documents that don't say when a request is slow."""


class InvalidDesired(ValueError):
    """An invalid document; what was desired before stays in use."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter of the store.

    Attributes:
        name: under which vLLM serves it.
        artifact: the stage that trained it.
        digest: of its tensors.
    """

    name: str
    artifact: str
    digest: str


@dataclass(frozen=True, slots=True)
class Target:
    """A share of an alias.

    Attributes:
        model: vLLM's name for the model.
        weight: parts of the sum of all weights.
        upstream: URL of another gateway that has it; empty for the vLLM of this pod.
        student: the first digits of its digest, or ``base``; if weights are merged all students have one model name.
    """

    model: str
    weight: int = 100
    upstream: str = ""
    student: str = ""

    @property
    def label(self) -> str:
        """The label that its requests and sessions are counted under."""
        return self.student or self.model

    @property
    def called(self) -> str:
        """The name in metrics, logs and what is kept; as the model of an adapter, whether weights are merged or not."""
        return f"student-{self.student}" if self.student not in ("", "base") else self.label


@dataclass(frozen=True, slots=True)
class Desired:
    """A whole document.

    Attributes:
        generation: tells this document from others; 0 is none.
        adapters: what vLLM holds.
        aliases: what clients may ask for.
        shadows: alias -> who gets a copy of every request, whose answer nobody sees; has no weight.
        max_first_token_seconds: a request that waits longer for its first token is slow.
    """

    generation: int = 0
    adapters: tuple[Adapter, ...] = ()
    aliases: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    shadows: Mapping[str, Target] = field(default_factory=dict)
    max_first_token_seconds: float = MAX_FIRST_TOKEN_SECONDS

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a document. Raises :class:`InvalidDesired`."""
        try:
            document: dict[str, Any] = json.loads(text)
            return cls(
                generation=int(document["generation"]),
                adapters=tuple(Adapter(**_known(Adapter, adapter)) for adapter in document.get("adapters", [])),
                aliases={
                    alias: tuple(Target(**_known(Target, target)) for target in targets)
                    for alias, targets in document.get("aliases", {}).items()
                },
                shadows={
                    alias: Target(**_known(Target, target)) for alias, target in document.get("shadows", {}).items()
                },
                max_first_token_seconds=float(document.get("maxFirstTokenSeconds", MAX_FIRST_TOKEN_SECONDS)),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidDesired(f"not a document of what is desired: {error}") from error

    @property
    def targets(self) -> Iterator[Target]:
        """All targets that requests or copies of them are sent to."""
        for targets in self.aliases.values():
            yield from (target for target in targets if target.weight > 0)
        yield from self.shadows.values()

    def choose(self, alias: str, session: str) -> Target | None:
        """Return the target of an alias for a session: always the same one, as long as the weights stay.

        A session that was given the canary at a small weight keeps it at a larger one.
        """
        targets = self._sharing(alias)
        if not targets:
            return None
        total = sum(target.weight for target in targets)
        named = f"{alias}\0{session}".encode("utf-8", "surrogatepass")  # JSON has halves of characters too
        place = int.from_bytes(hashlib.sha256(named).digest()[:8]) / 2**64 * total
        # the last target is the newcomer: it grows from the bottom, so what it has it keeps
        for target in reversed(targets):
            if place < target.weight:
                return target
            place -= target.weight
        return targets[0]

    def incumbent(self, alias: str) -> Target | None:
        """Return the stable target: the first that has a share. It answers all that no canary does."""
        return next(iter(self._sharing(alias)), None)

    def _sharing(self, alias: str) -> list[Target]:
        return [target for target in self.aliases.get(alias, ()) if target.weight > 0]


def _known(kind: type[Adapter | Target], told: Mapping[str, Any]) -> dict[str, Any]:
    """What this version knows of it: the operator may be newer."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in told.items() if name in names}


class DesiredFile:
    """The document in its file, read again when it changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text: str | None = None
        self.current = Desired()

    def refresh(self) -> bool:
        """Look at the file; True if it holds something new.

        Raises:
            InvalidDesired: once for each wrong text.
        """
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        if text == self._text or not text.strip():
            return False
        self._text = text
        self.current = Desired.parse(text)
        return True
