"""All benchmarks, one after the other, and docs/benchmarks.md from their figures.

    make bench                                      minutes each
    make bench-short                                half a minute each
    python -m benchmarks --only driver workers      some of them
    python -m benchmarks --only                     the table alone, from the figures there are

The operator's needs a Kubernetes, that of $KUBECONFIG (`make cluster` makes one), and is left out without; the search
among a million hints is left out of the short form. Figures lie in build/benchmarks, as JSON. The exit code is 1 if one
is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure

ROOT = Path(__file__).parents[1]
FIGURES, PAGE = ROOT / "build" / "benchmarks", ROOT / "docs" / "benchmarks.md"

TITLES = {
    "alfworld_engine": "ALFWorld's engine",
    "loop": "The loop, beside its server alone, and its prompts, which only grow",
    "driver": "The rollout driver",
    "workers": "Rollout workers side by side",
    "training": "Training, beside TRL",
    "hint_search": "Filtered hint search",
    "hint_search_million": "Filtered hint search among a million",
    "operator": "The operator and its idle runs",
    "gateway": "The gateway, and the same server without it",
}

COMMANDS = {name: (f"benchmarks.{name}",) for name in TITLES} | {
    "hint_search_million": ("benchmarks.hint_search", "--hints", "1000000")
}
"""The module of each, and its options."""


def main() -> int:
    """Run them; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the short form of each, and no table")
    parser.add_argument("--only", nargs="*", choices=TITLES, default=list(TITLES))
    parser.add_argument("--trl", type=Path, help="folder with TRL, for training; without it that is left out")
    chosen = parser.parse_args()
    arguments: dict[str, Sequence[str]] = {
        "training": ["--trl", str(chosen.trl.resolve())] if chosen.trl else [],
    }
    left_out = {
        "training": "" if chosen.trl else "--trl names no folder with TRL",
        "operator": "" if os.environ.get("KUBECONFIG") else "$KUBECONFIG is not set; make e2e runs it, too",
        "hint_search_million": "it has no short form" if chosen.short else "",
    }
    failed = []
    for name in chosen.only:
        if why := left_out.get(name):
            print(f"\n{name}: left out: {why}", flush=True)
            continue
        print(f"\n{name}", flush=True)
        output = FIGURES / f"{name}{'-short' if chosen.short else ''}.json"
        command = [sys.executable, "-m", *COMMANDS[name], "--output", str(output), *arguments.get(name, [])]
        if subprocess.run([*command, "--short"] if chosen.short else command, cwd=ROOT, check=False).returncode:
            failed.append(name)
    if not chosen.short:
        PAGE.write_text("\n".join(page(read())) + "\n", encoding="utf-8")
        print(f"\n{PAGE.relative_to(ROOT)} is written")
    if failed:
        print(f"\nbroken: {', '.join(failed)}")
    return int(bool(failed))


def read() -> list[dict[str, Any]]:
    """What the benchmarks wrote, those that there are."""
    paths = [FIGURES / f"{name}.json" for name in TITLES]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def page(documents: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The page, line by line."""
    yield "# Benchmarks"
    yield ""
    yield "Written by `make bench`. What is compared stands side by side in one run; take the ratios, for absolute"
    yield "numbers are those of the machine. How each is measured stands at the head of its file in `benchmarks/`."
    for document in documents:
        machine, name = document["machine"], document["benchmark"]
        figures = [Figure(**figure) for figure in document["figures"]]
        yield ""
        yield f"## {TITLES[name]}"
        yield ""
        where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memoryGiB']} GiB"
        busy = f"load average of {machine['load']:g}" + (f" and nice {machine['nice']}" if machine["nice"] else "")
        yield f"`python -m {' '.join(COMMANDS[name])}`, {document['date']}, on {where}, at a {busy}."
        yield ""
        yield "| what | wanted | measured | n |"
        yield "|---|---:|---:|---|"
        for figure in figures:
            verdict = " (falls short)" if figure.wanted and not figure.met else ""
            yield f"| {figure.what} | {figure.wanted} | {figure.number}{verdict} | {figure.n} |"
        for note in dict.fromkeys(figure.note for figure in figures if figure.note and not figure.met):
            yield ""
            yield f"Why it falls short: {note}."


if __name__ == "__main__":
    sys.exit(main())
