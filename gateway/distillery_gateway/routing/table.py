"""The routing config in use: a new table is taken over once its stable models can answer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager

from distillery_gateway.errors import Refusal, no_such_model
from distillery_gateway.routing.document import Desired, Target
from distillery_gateway.routing.traffic import Live

_log = logging.getLogger(__name__)


class Routes:
    """The routing document in use, its traffic counts, and how many requests run on each model.

    Attributes:
        live: counts of the document in use. A request keeps its counts: it counts for the document that it began under.
        context: tokens that a prompt and its answer may have together, as vLLM says; None before it did.
    """

    def __init__(self) -> None:
        self._table = Desired()
        self._whole = False
        self.live = Live()
        self.context: int | None = None
        self._held: frozenset[str] = frozenset()
        self._running: Counter[str] = Counter()

    @property
    def generation(self) -> int:
        """The generation of the table in use, once vLLM has held all that it names; 0 before."""
        return self._table.generation if self._whole else 0

    @property
    def waits_for(self) -> str:
        """The reason why requests are not to be sent here; empty once they are."""
        if not self._table.generation:
            return "nothing is served yet"
        missing = _incumbents(self._table) - self._held
        return f"vLLM does not hold {sorted(missing)[0]}" if missing else ""

    @property
    def aliases(self) -> Collection[str]:
        """The names that clients may ask for."""
        return self._table.aliases.keys()

    @property
    def held(self) -> frozenset[str]:
        """The models that vLLM holds."""
        return self._held

    @property
    def in_use(self) -> frozenset[str]:
        """The models that requests are sent to, or still run on."""
        named = {target.model for targets in self._table.aliases.values() for target in targets if not target.upstream}
        return frozenset(
            named | _models(self._table.targets) | {model for model, running in self._running.items() if running}
        )

    def see(self, held: Collection[str]) -> None:
        """Note the models that vLLM holds now: none if it is away."""
        self._held = frozenset(held)

    def offer(self, desired: Desired, held: Collection[str]) -> bool:
        """Apply a document if vLLM holds the stable models of its names; True once it has held the canaries too.

        Until then the previous document stays in use: no request is ever sent to a model that is not there. A canary
        that can't be loaded takes no pod away from the stable student, which answers for it meanwhile.
        """
        self.see(held)
        if desired.generation != self._table.generation:
            if _incumbents(desired) - self._held:
                return False
            _log.info("serving generation %d: %s", desired.generation, dict(desired.aliases))
            live = Live(desired.targets, desired.max_first_token_seconds)
            self._table, self.live, self._whole = desired, live, False
        self._whole = self._whole or not _models(desired.targets) - self._held
        return self._whole

    def target(self, alias: str, session: str) -> Target:
        """Return who answers. Raises :class:`Refusal` (404, or 503 where nobody does at the moment)."""
        # a gateway that has just started knows no names yet, and must not deny them: clients give up at a 404
        if self._table.generation and alias not in self._table.aliases:
            raise no_such_model(alias)
        target, incumbent = self._table.choose(alias, session), self._table.incumbent(alias)
        if target is None or incumbent is None:
            raise Refusal(503, "model_not_ready", "The model is not being served at the moment; try again.")
        # where neither is there vLLM is away, and what that breaks is not to count for the incumbent alone
        return target if self._is_there(target) or not self._is_there(incumbent) else incumbent

    def shadow(self, alias: str) -> Target | None:
        """Return the target that gets a copy of the request, or None."""
        target = self._table.shadows.get(alias)
        return target if target and self._is_there(target) else None

    @contextmanager
    def running(self, model: str) -> Generator[None]:
        """Count a request while it runs: an adapter that is in use is not unloaded."""
        self._running[model] += 1
        try:
            yield
        finally:
            self._running[model] -= 1

    def _is_there(self, target: Target) -> bool:
        return bool(target.upstream) or target.model in self._held


def _incumbents(table: Desired) -> frozenset[str]:
    """What the vLLM beside this process can't do without: who answers where no newcomer does."""
    return _models(filter(None, map(table.incumbent, table.aliases)))


def _models(targets: Iterable[Target]) -> frozenset[str]:
    """What the vLLM beside this process is to hold."""
    return frozenset(target.model for target in targets if not target.upstream)
