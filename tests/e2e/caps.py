"""What `make e2e` may start: each run and each image costs every change minutes, so tests share them."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_RUNS = 2
MAX_BUILDS = 3


@dataclass
class Cap:
    """A count with a limit.

    Attributes:
        what: is counted, in the plural.
        most: of them, where there is a limit at all.
        limited: whether there is one: `make e2e-full` has none.
        names: of those that were counted.
    """

    what: str
    most: int
    limited: bool = False
    names: list[str] = field(default_factory=list[str])

    def count(self, name: str) -> None:
        """Count one more. Raises AssertionError if that is too many."""
        self.names.append(name)
        over = self.limited and len(self.names) > self.most
        assert not over, (
            f"make e2e has at most {self.most} {self.what}: {', '.join(self.names)}; share one, or mark the test full"
        )


RUNS = Cap("runs", MAX_RUNS)
"""Runs that are applied and not suspended."""

BUILDS = Cap("image builds", MAX_BUILDS)
"""Images that hold the code of this repository, and so are built after each change."""
