"""The selection of the target that answers a session, by the weights of a routing document. Pure."""

from __future__ import annotations

import hashlib

from distillery.core.contracts.routing import RoutingConfig, Target


def select_target(config: RoutingConfig, alias: str, session: str) -> Target | None:
    """Return the target of an alias for a session: always the same one, as long as the weights stay.

    A session that was given the canary at a small weight keeps it at a larger one.
    """
    targets = _weighted_targets(config, alias)
    if not targets:
        return None
    total = sum(target.weight for target in targets)
    seed = f"{alias}\0{session}".encode("utf-8", "surrogatepass")  # JSON has halves of characters too
    position = int.from_bytes(hashlib.sha256(seed).digest()[:8]) / 2**64 * total
    # the last target is the canary: its share grows from the bottom, so it keeps its sessions
    for target in reversed(targets):
        if position < target.weight:
            return target
        position -= target.weight
    return targets[0]


def stable_target(config: RoutingConfig, alias: str) -> Target | None:
    """Return the stable target: the first that has a share. It answers all that no canary does."""
    return next(iter(_weighted_targets(config, alias)), None)


def _weighted_targets(config: RoutingConfig, alias: str) -> list[Target]:
    return [target for target in config.aliases.get(alias, ()) if target.weight > 0]
