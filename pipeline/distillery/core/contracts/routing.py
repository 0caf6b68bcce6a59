"""The routing document: the adapters that vLLM must hold, and the targets of each name that clients use.

The operator writes it into a ConfigMap. The kubelet makes a file of it, which the gateway and the syncer read. Names of
adapters are made of their digests, so that a name never has two meanings. Operator and gateway may be of two releases:
a field that the reader does not know is ignored, and a field that is missing has its default.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

MAX_FIRST_TOKEN_SECONDS = 10.0
"""The default for documents that do not define when a request is slow."""


class InvalidRoutingConfig(ValueError):
    """An invalid document; the one before it stays in use."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter of the store.

    Attributes:
        name: vLLM's name for it.
        artifact: the stage that trained it.
        digest: of its tensors.
    """

    name: str
    artifact: str
    digest: str


@dataclass(frozen=True, slots=True)
class Target:
    """A target of an alias.

    Attributes:
        model: vLLM's name for the model.
        weight: parts of the sum of all weights of the alias.
        upstream: URL of another gateway that has the model; empty for the vLLM of this pod.
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
    def display_name(self) -> str:
        """The name in metrics, logs and captured records: that of an adapter, whether weights are merged or not."""
        return f"student-{self.student}" if self.student not in ("", "base") else self.label


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """A whole document.

    Attributes:
        generation: differs from that of every other document; 0 is none.
        adapters: what vLLM must hold.
        aliases: the names that clients may use, each with its targets, the canary last.
        shadows: alias -> the target that gets a copy of every request, whose answer nobody sees; has no weight.
        step: identifies a step of a canary, so that its document differs even where the shares stay; None for no step.
        max_first_token_seconds: a request that waits longer for its first token is slow.
    """

    generation: int = 0
    adapters: tuple[Adapter, ...] = ()
    aliases: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    shadows: Mapping[str, Target] = field(default_factory=dict)
    step: str | None = None
    max_first_token_seconds: float = MAX_FIRST_TOKEN_SECONDS

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a document. Raises :class:`InvalidRoutingConfig`."""
        try:
            document: dict[str, Any] = json.loads(text)
            return cls(
                generation=int(document["generation"]),
                adapters=tuple(Adapter(**_known_fields(Adapter, entry)) for entry in document.get("adapters", [])),
                aliases={
                    alias: tuple(Target(**_known_fields(Target, entry)) for entry in entries)
                    for alias, entries in document.get("aliases", {}).items()
                },
                shadows={
                    alias: Target(**_known_fields(Target, entry))
                    for alias, entry in document.get("shadows", {}).items()
                },
                step=document.get("step"),
                max_first_token_seconds=float(document.get("maxFirstTokenSeconds", MAX_FIRST_TOKEN_SECONDS)),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidRoutingConfig(f"not a routing document: {error}") from error

    def dump(self) -> str:
        """Return the document as it is read back."""
        return json.dumps({"generation": self.generation, **self._contents()})

    def with_generation(self) -> Self:
        """Return the document with the generation that its contents determine.

        Nothing has to be counted then, and nothing can be counted twice.
        """
        digest = hashlib.sha256(json.dumps(self._contents(), sort_keys=True).encode()).hexdigest()
        return replace(self, generation=int(digest[:8], 16) or 1)

    @property
    def targets(self) -> Iterator[Target]:
        """All targets that get requests or copies of requests."""
        for targets in self.aliases.values():
            yield from (target for target in targets if target.weight > 0)
        yield from self.shadows.values()

    def _contents(self) -> dict[str, Any]:
        """Return all but the generation, each field in the form that earlier releases wrote."""
        contents: dict[str, Any] = {
            "adapters": [asdict(adapter) for adapter in self.adapters],
            "aliases": {
                alias: [_target(target, has_weight=len(targets) > 1) for target in targets]
                for alias, targets in self.aliases.items()
            },
        }
        if self.step is not None:
            contents |= {"step": self.step, "maxFirstTokenSeconds": self.max_first_token_seconds}
        if self.shadows:
            contents["shadows"] = {alias: _target(target, has_weight=False) for alias, target in self.shadows.items()}
        return contents


def _target(target: Target, *, has_weight: bool) -> dict[str, Any]:
    """Return a target as a JSON object; a weight means nothing where there is one target."""
    document: dict[str, Any] = {"model": target.model, "student": target.student}
    if target.upstream:
        document["upstream"] = target.upstream
    if has_weight:
        document["weight"] = target.weight
    return document


def _known_fields(kind: type[Adapter | Target], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that this release knows: the operator may be newer."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in entry.items() if name in names}
