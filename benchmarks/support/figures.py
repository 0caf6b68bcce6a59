"""What the benchmarks share: their options, figures with what is wanted of them, JSON, and the exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        what: in words.
        measured: the number.
        n: what it was measured over, in words.
        most: at most this is wanted; None if ``least`` is, or if the figure is only shown next to another.
        least: at least this is wanted.
        room: for noise: by this factor a figure may miss what is wanted before it counts as broken.
        unit: such as ``ms``; empty for ratios.
        note: why it falls short, or what is to be known about it.
    """

    what: str
    measured: float
    n: str
    most: float | None = None
    least: float | None = None
    room: float = 1.25
    unit: str = ""
    note: str = ""

    @property
    def wanted(self) -> str:
        """What is wanted, in signs; empty where nothing is."""
        if self.most is not None:
            return f"≤ {self.most:g} {self.unit}".rstrip()
        return f"≥ {self.least:g} {self.unit}".rstrip() if self.least is not None else ""

    @property
    def number(self) -> str:
        """The measured number, in four digits."""
        digits = f"{self.measured:,.0f}" if abs(self.measured) >= 1000 else f"{self.measured:.4g}"
        return f"{digits} {self.unit}".rstrip()

    @property
    def met(self) -> bool:
        """Whether the figure is as wanted."""
        return self._within(1.0)

    @property
    def broken(self) -> bool:
        """Whether it is so far off that noise does not explain it."""
        return not self._within(self.room)

    def _within(self, room: float) -> bool:
        enough = self.least is None or self.measured >= self.least / room
        return enough and (self.most is None or self.measured <= self.most * room)


def options(documentation: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--short", action="store_true", help="half a minute, for CI; 1 if a figure is broken")
    made.add_argument("--output", type=Path, help="write the figures there, as JSON")
    return made


def conclude(
    name: str, figures: Sequence[Figure], chosen: argparse.Namespace, details: Mapping[str, Any] | None = None
) -> None:
    """Print the figures, write them where they are wanted, and end with 1 if one is broken.

    Args:
        name: of the benchmark.
        figures: all of them.
        chosen: from :func:`options`.
        details: more to be kept in the JSON.
    """
    for figure in figures:
        verdict = "" if not figure.wanted else "" if figure.met else "  BROKEN" if figure.broken else "  falls short"
        print(f"{figure.what:<72}{figure.number:>12}  {figure.wanted:<10}{verdict}  ({figure.n})")
    if chosen.output:
        document = {
            "benchmark": name,
            "short": chosen.short,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": machine(),
            "figures": [asdict(figure) for figure in figures],
            "details": details or {},
        }
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if any(figure.broken for figure in figures):
        sys.exit(1)


def machine() -> dict[str, Any]:
    """Where the figures come from, and how busy it was."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memoryGiB": round(memory / 2**30),
        "load": round(os.getloadavg()[1], 1),
        "nice": os.nice(0),
    }
