"""Which model answers to which name now: the desired table, taken over once everything in it can answer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Generator
from contextlib import contextmanager

from distillery_gateway.desired import Desired, Target
from distillery_gateway.errors import Refusal, no_such_model
from distillery_gateway.live import Live

_log = logging.getLogger(__name__)


class Routes:
    """The table in use, what became of its requests, and how many run on each model.

    Attributes:
        live: counts of the table in use. Whoever counts holds on to it: what began under a table counts for that one.
    """

    def __init__(self) -> None:
        self._table = Desired()
        self.live = Live()
        self._held: frozenset[str] = frozenset()
        self._running: Counter[str] = Counter()

    @property
    def generation(self) -> int:
        """Of the table in use; 0 before there is one."""
        return self._table.generation

    @property
    def waits_for(self) -> str:
        """Why requests are not to be sent here; empty once they are."""
        if not self.generation:
            return "nothing is served yet"
        missing = _needs(self._table) - self._held
        return f"vLLM does not hold {sorted(missing)[0]}" if missing else ""

    @property
    def aliases(self) -> Collection[str]:
        """What clients may ask for."""
        return self._table.aliases.keys()

    @property
    def held(self) -> frozenset[str]:
        """Models that vLLM holds."""
        return self._held

    @property
    def in_use(self) -> frozenset[str]:
        """Models that requests are sent to, or still run on."""
        named = {target.model for targets in self._table.aliases.values() for target in targets if not target.upstream}
        return frozenset(named | _needs(self._table) | {model for model, running in self._running.items() if running})

    def see(self, held: Collection[str]) -> None:
        """What vLLM holds now: nothing where it is away."""
        self._held = frozenset(held)

    def offer(self, desired: Desired, held: Collection[str]) -> bool:
        """Take a table over if vLLM holds all that it names; True if it is in use now.

        Until then the one before stands: no request is ever sent to what is not there.
        """
        if desired.generation == self._table.generation:
            return True
        self.see(held)
        if _needs(desired) - self._held:
            return False
        _log.info("serving generation %d: %s", desired.generation, dict(desired.aliases))
        self._table, self.live = desired, Live(desired.targets)
        return True

    def target(self, alias: str, session: str) -> Target:
        """Who answers. Raises :class:`Refusal` (404, or 503 where nobody does at the moment)."""
        # a gateway that has just started knows no names yet, and must not deny them: clients give up at a 404
        if self.generation and alias not in self._table.aliases:
            raise no_such_model(alias)
        target = self._table.choose(alias, session)
        if target is None:
            raise Refusal(503, "model_not_ready", "The model is not being served at the moment; try again.")
        return target

    def shadow(self, alias: str) -> Target | None:
        """Who gets a copy of the request, if anybody does."""
        return self._table.shadows.get(alias)

    @contextmanager
    def running(self, model: str) -> Generator[None]:
        """Count a request while it runs: an adapter that is in use is not unloaded."""
        self._running[model] += 1
        try:
            yield
        finally:
            self._running[model] -= 1


def _needs(table: Desired) -> frozenset[str]:
    """The models that the vLLM beside this process has to hold for a table."""
    return frozenset(target.model for target in table.targets if not target.upstream)
