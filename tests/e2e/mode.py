"""What of these tests can run here: all of them, or those that need an API server and no node."""

from __future__ import annotations

import os

from hack.testbed.machine import programs
from hack.testbed.places import Places


def why_no_node() -> str:
    """Return why no node can run here; empty if one can.

    A new machine would spend most of an hour compiling the programs of a node before the first test. So a node is made
    from programs that `make cluster` built, and without them the API server alone is built and tested.
    """
    if os.environ.get("E2E_CONTEXT"):
        return ""
    places = Places.from_environment()
    missing = programs.missing(places)
    if not missing:
        return ""
    return f"{places.programs} lacks {', '.join(missing)}; `make cluster` builds them"
