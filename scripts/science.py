"""The demonstration with several seeds: every arm next to its controls, over all of them.

    make science
    python scripts/science.py --seeds 3 --document examples/demo.yaml

A seed draws the tasks (generated games are other games), the order and the start of training; each seed is a run of its
own, DOCUMENT-seed-0 and so on. You can stop it at any time; run it again to resume. At the end it
prints two tables, the paired comparisons, the differences of each seed first, with Holm's correction over all of them,
and success of every arm, and writes them with the numbers of each seed to $DISTILLERY_HOME/science.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from distillery.core.api import DistillationRun, canonical, load, parse
from distillery.database import Database
from distillery.database.episodes import EpisodeStore
from distillery.database.runs import RunStore
from distillery.database.stages import StageStore
from distillery.evaluation.arms import ArmResults, add_identical_students, compare, pool_runs, read_results
from distillery.formatting import format_p_value, format_percent, format_points
from distillery.local import workspace
from distillery.report.arms_table import COLUMNS, build_rows

_CONDITIONS = (
    "A p-value is about the students at hand, one trained adapter per arm and seed: it says how surely these differ on "
    "tasks like these, and nothing about what another training would give. The differences of the seeds show that."
)

DISTILLERY = Path(sys.executable).with_name("distillery")


def main() -> int:
    """Run every seed, then report on all. The exit code is that of the run that failed, if one did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--document", type=Path, default=Path(__file__).parents[1] / "examples" / "demo.yaml")
    chosen = parser.parse_args()
    document = load(chosen.document)
    folder = workspace.home() / "science"
    folder.mkdir(parents=True, exist_ok=True)
    runs = [with_seed(document, seed) for seed in range(chosen.seeds)]
    for run in runs:
        path = folder / f"{run.metadata.name}.yaml"
        path.write_text(yaml.safe_dump(canonical(run), sort_keys=False), encoding="utf-8")
        print(f"\n{run.metadata.name}", flush=True)
        if code := wait_for([DISTILLERY, "run", path]):
            return code
    found = asyncio.run(read(runs))
    name = document.metadata.name
    page = "\n".join(markdown(found))
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(page + "\n", encoding="utf-8")
    print(f"\n{page}\n\nwritten to {folder / name}.md and .json")
    return 0


def wait_for(command: Sequence[str | Path]) -> int:
    """Return a command's exit code. Ctrl-C reaches the command too; it gets the time to stop its own processes."""
    with subprocess.Popen(command) as process:
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


def with_seed(document: DistillationRun, seed: int) -> DistillationRun:
    """The same run under a name of its own, with another seed wherever one is."""
    made = canonical(document)
    spec = made["spec"]
    made["metadata"]["name"] = f"{made['metadata']['name']}-seed-{seed}"
    spec["environment"]["tasks"]["seed"] = spec["training"]["seed"] = seed
    if spec["environment"]["name"] == "alfworld":
        spec["environment"]["options"]["seed"] = seed  # of generated games
    return parse(made)


async def read(runs: Sequence[DistillationRun]) -> dict[str, Any]:
    """What came out: all seeds together, and each."""
    played: dict[str, Mapping[str, ArmResults]] = {}
    same_as: dict[str, dict[str, str]] = {}
    sources = []
    with workspace.database() as (dsn, _):
        async with Database(dsn) as database:
            for run in runs:
                run_id = (await RunStore(database).find(run.key))["id"]
                stages = {row["name"]: row for row in await StageStore(database, run_id).read()}
                last = max(int(name[1 : name.index("-")]) for name in stages if name.endswith("-promote"))
                name = run.metadata.name
                played[name] = await read_results(EpisodeStore(database, run_id), last, run.spec.evaluation.arms)
                trained = {
                    arm: (stages.get(f"r{last}-train-{arm}") or {}).get("result") for arm in run.spec.evaluation.arms
                }
                same_as[name] = {
                    arm: result["sameAs"] for arm, result in trained.items() if result and "sameAs" in result
                }
                sources.append(stages["prepare"]["result"]["environment"]["source"])
    # a student that one seed had no need to train, and another had, is compared in all
    everywhere = set.intersection(*(set(same) for same in same_as.values()))
    each = {
        name: add_identical_students(arms, {a: b for a, b in same_as[name].items() if a not in everywhere})
        for name, arms in played.items()
    }
    first = next(iter(same_as.values()))
    return conclude(each, sources, runs[0].spec.promotion.gate.metric, {arm: first[arm] for arm in everywhere})


def conclude(
    each: Mapping[str, Mapping[str, ArmResults]],
    sources: Sequence[str],
    metric: str,
    same_as: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The arms and comparisons of all runs together, and of each by its name; ``same_as`` as in :func:`compare`."""

    def describe(arms: Mapping[str, ArmResults]) -> dict[str, Any]:
        return {
            "arms": {arm: outcomes.summary() for arm, outcomes in arms.items()},
            "comparisons": compare(arms, metric, same_as=same_as),
        }

    return {
        "sources": list(sources),
        **describe(pool_runs(list(each.values()))),
        "seeds": {n: describe(a) for n, a in each.items()},
    }


def markdown(found: Mapping[str, Any]) -> Iterator[str]:
    """Both tables, and what they are about."""
    seeds = found["seeds"].values()
    successes = {
        arm: ", ".join(format_percent(seed["arms"][arm]["success"]) for seed in seeds) for arm in found["arms"]
    }
    header = ["a", "b", "each seed: a - b", "tasks", "a - b", "95 % interval", "p", "p (Holm)"]
    yield from _table(header, [_comparison(c, seeds) for c in found["comparisons"]])
    yield ""
    yield from _table([*COLUMNS, "each seed %"], [[*row, successes[row[0]]] for row in build_rows(found)])
    yield ""
    base = next(iter(found["arms"].values()))
    tests = ", ".join(dict.fromkeys(c["test"] for c in found["comparisons"]))
    repeated = "" if base["n"] == base["tasks"] else " Seeds share tasks: intervals are over tasks, not over episodes."
    yield f"{len(found['seeds'])} seeds; tasks: {'; '.join(dict.fromkeys(found['sources']))}. Tests: {tests}.{repeated}"
    yield ""
    yield _CONDITIONS


def _comparison(comparison: Mapping[str, Any], seeds: Iterable[Mapping[str, Any]]) -> list[str]:
    low, high = map(format_points, comparison["ci"])
    each = ", ".join(format_points(_difference(seed, comparison)) for seed in seeds)
    p, corrected = format_p_value(comparison["p"]), format_p_value(comparison["pHolm"])
    return [
        comparison["a"],
        comparison["b"],
        each,
        str(comparison["tasks"]),
        format_points(comparison["difference"]),
        f"{low} to {high}",
        p,
        corrected,
    ]


def _difference(seed: Mapping[str, Any], comparison: Mapping[str, Any]) -> float:
    pair = comparison["a"], comparison["b"]
    return next(c["difference"] for c in seed["comparisons"] if (c["a"], c["b"]) == pair)


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|---|{'---:|' * (len(header) - 1)}"
    for row in body:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    sys.exit(main())
