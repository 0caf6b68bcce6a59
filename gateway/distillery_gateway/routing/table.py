"""The routing config in use: a new one is applied once its stable models can answer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager

from distillery.core.contracts.routing import RoutingConfig, Target
from distillery_gateway.errors import ApiError, model_not_found
from distillery_gateway.routing.selection import select_target, stable_target
from distillery_gateway.routing.traffic_stats import TrafficStats

_log = logging.getLogger(__name__)


class Routes:
    """The routing config in use, its traffic counts, and the number of requests that run on each model.

    Attributes:
        traffic: counts of the config in use. A request keeps its counts: it counts for the config that it began under.
        context: tokens that a prompt and its answer may have together, as vLLM reports; None before it did.
    """

    def __init__(self) -> None:
        self._config = RoutingConfig()
        self._fully_loaded = False
        self.traffic = TrafficStats()
        self.context: int | None = None
        self._loaded_models: frozenset[str] = frozenset()
        self._running: Counter[str] = Counter()

    @property
    def fully_loaded(self) -> bool:
        """True once vLLM has held all models of the config in use."""
        return self._fully_loaded

    @property
    def generation(self) -> int:
        """The generation of the config in use, once its models were fully loaded; 0 before."""
        return self._config.generation if self._fully_loaded else 0

    @property
    def not_ready_reason(self) -> str:
        """The reason why requests must not be sent here; empty if they may."""
        if not self._config.generation:
            return "nothing is served yet"
        missing = _stable_models(self._config) - self._loaded_models
        return f"vLLM does not hold {sorted(missing)[0]}" if missing else ""

    @property
    def aliases(self) -> Collection[str]:
        """The names that clients may ask for."""
        return self._config.aliases.keys()

    @property
    def loaded_models(self) -> frozenset[str]:
        """The models that vLLM holds."""
        return self._loaded_models

    @property
    def in_use(self) -> frozenset[str]:
        """The models that requests are sent to, or still run on."""
        routed = (target for targets in self._config.aliases.values() for target in targets)
        running = {model for model, requests in self._running.items() if requests}
        return _local_models(routed) | _local_models(self._config.targets) | running

    def set_loaded_models(self, models: Collection[str]) -> None:
        """Store the models that vLLM holds now: none if it is away."""
        self._loaded_models = frozenset(models)

    def try_apply(self, config: RoutingConfig, loaded_models: Collection[str]) -> bool:
        """Apply a config if vLLM holds the stable models of its names; True once it has held the canaries too.

        Until then the previous config stays in use: no request is ever sent to a model that is not there. A canary
        that can't be loaded takes no pod away from the stable student, which answers for it meanwhile.
        """
        self.set_loaded_models(loaded_models)
        if config.generation != self._config.generation:
            if _stable_models(config) - self._loaded_models:
                return False
            _log.info("serving generation %d: %s", config.generation, dict(config.aliases))
            traffic = TrafficStats(config.targets, config.max_first_token_seconds)
            self._config, self.traffic, self._fully_loaded = config, traffic, False
        self._fully_loaded = self._fully_loaded or not _local_models(config.targets) - self._loaded_models
        return self._fully_loaded

    def target(self, alias: str, session: str) -> Target:
        """Return the target that answers. Raises :class:`ApiError` (404, or 503 if none can answer at the moment)."""
        # a gateway that has just started knows no names yet, and must not deny them: clients give up at a 404
        if self._config.generation and alias not in self._config.aliases:
            raise model_not_found(alias)
        target, stable = select_target(self._config, alias, session), stable_target(self._config, alias)
        if target is None or stable is None:
            raise ApiError(503, "model_not_ready", "The model is not being served at the moment; try again.")
        # where neither is there vLLM is away, and its errors must not count for the stable student alone
        return target if self._is_available(target) or not self._is_available(stable) else stable

    def shadow(self, alias: str) -> Target | None:
        """Return the target that gets a copy of the request, or None."""
        target = self._config.shadows.get(alias)
        return target if target and self._is_available(target) else None

    @contextmanager
    def running(self, model: str) -> Generator[None]:
        """Count a request while it runs: an adapter that is in use is not unloaded."""
        self._running[model] += 1
        try:
            yield
        finally:
            self._running[model] -= 1

    def _is_available(self, target: Target) -> bool:
        return bool(target.upstream) or target.model in self._loaded_models


def _stable_models(config: RoutingConfig) -> frozenset[str]:
    """Return the models that this pod's vLLM must hold: those that answer where no canary does."""
    return _local_models(filter(None, (stable_target(config, alias) for alias in config.aliases)))


def _local_models(targets: Iterable[Target]) -> frozenset[str]:
    """Return the models that this pod's vLLM is to hold."""
    return frozenset(target.model for target in targets if not target.upstream)
