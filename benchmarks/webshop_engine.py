"""Speed and memory of our WebShop: preparation, steps per second, and what each worker process adds.

    python benchmarks/webshop_engine.py --data FOLDER                   on WebShop's own files
    python benchmarks/webshop_engine.py --products 1180000 --workers 1 4    on a generated shop of that size

Prints one JSON document. A worker plays alone on its core's time: steps per second are of CPU time
(``time.process_time``), so that other work on the machine hardly changes them; the time to prepare is wall time.
Memory is read while all workers are up, have played and still hold the shop: ``rss`` counts mapped pages in each
process that touched them, ``pss`` divides them among these, ``own`` leaves them out: it is what a worker adds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from distillery.environments.base import Task
from distillery_webshop.compiled_shop import Goals
from distillery_webshop.environment import WebShop
from distillery_webshop.session import WebShopSession

_FIELDS = {"Rss": "rss", "Pss": "pss", "Anonymous": "own"}


def prepare(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Compile the shop."""
    start = time.monotonic()
    environment = WebShop(options, folder)
    environment.prepare({"train": 1})
    files = [file for file in (folder / "shop").rglob("*") if file.is_file()]
    return {
        "source": environment.source,
        "seconds": round(time.monotonic() - start, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "shop_mb": round(sum(file.stat().st_size for file in files) / 1e6),
    }


def episode(session: WebShopSession, rng: random.Random, times: dict[str, list[float]]) -> None:
    """Search, look at some products and their texts, choose options, buy: about a dozen steps."""

    def step(action: str) -> list[str]:
        start = time.process_time()
        observation = session.step(action)
        times["search" if action.startswith("search") else "click"].append(time.process_time() - start)
        assert observation.valid, (action, observation)
        return [action[6:-1] for action in observation.admissible]

    start = time.process_time()
    goal = session.reset().text.split(" [SEP] ")[2]
    times["click"].append(time.process_time() - start)
    asins = [button for button in step(f"search[{goal.replace('[', '').replace(']', '')}]") if _is_asin(button)]
    if rng.random() < 0.3:
        asins = [button for button in step("click[next >]") if _is_asin(button)] or asins
    for _ in range(2):
        if not asins:
            break
        buttons = step(f"click[{rng.choice(asins)}]")
        for button in ("description", "features"):
            step(f"click[{button}]")
            step("click[< prev]")
        options = buttons[buttons.index("buy now") + 1 :]
        for value in rng.sample(options, min(2, len(options))):
            step(f"click[{value}]")
        if rng.random() < 0.5:
            step("click[buy now]")
            return
        asins = [button for button in step("click[< prev]") if _is_asin(button)]


def play(options: dict[str, Any], folder: Path, steps: int, seed: int) -> tuple[dict[str, Any], WebShop]:
    """Play episodes for so many steps; what came out, and the environment, which holds the shop."""
    start = time.process_time()
    environment, goals = WebShop(options, folder), Goals(folder / "shop")
    tasks = [Task(f"fixed_{n}_{goals[n].asin}", "", "", "") for n in range(min(1000, len(goals)))]
    rng = random.Random(seed)
    times: dict[str, list[float]] = {"search": [], "click": []}
    episode(environment.open(rng.choice(tasks)), rng, times)
    first = time.process_time() - start
    for kind in times:
        times[kind].clear()
    start, episodes = time.process_time(), 0
    while sum(map(len, times.values())) < steps:
        episode(environment.open(rng.choice(tasks)), rng, times)
        episodes += 1
    played = sum(map(len, times.values()))
    result = {
        "steps": played,
        "episodes": episodes,
        "steps_per_cpu_second": round(played / (time.process_time() - start)),
        "search_ms": round(1e3 * sum(times["search"]) / len(times["search"]), 3),
        "click_ms": round(1e3 * sum(times["click"]) / len(times["click"]), 3),
        "cpu_seconds_to_first_episode": round(first, 2),
    }
    return result, environment


def memory() -> dict[str, float]:
    """Of this process, in megabytes."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    found = [match for line in lines if (match := re.match(r"(\w+): +(\d+) kB", line)) and match[1] in _FIELDS]
    sizes = {_FIELDS[match[1]]: int(match[2]) / 1e3 for match in found}
    sizes["peak_rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {name: round(size, 1) for name, size in sizes.items()}


def workers(number: int, arguments: list[str]) -> list[dict[str, Any]]:
    """Let so many processes play, and have each tell its memory once all have."""
    command = [sys.executable, __file__, *arguments, "--play"]
    processes = [
        subprocess.Popen([*command, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for seed in range(number)
    ]
    results: list[dict[str, Any]] = []
    for process in processes:
        assert process.stdout is not None
        results.append(json.loads(process.stdout.readline()))
    for process, result in zip(processes, results, strict=True):
        result["memory_mb"] = json.loads(_ask(process))
    for process in processes:
        process.communicate()
    return results


def _ask(process: subprocess.Popen[str]) -> str:
    """What a process tells of its memory; it stays up until its input ends, for the sake of the others' numbers."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


def _is_asin(button: str) -> bool:
    return bool(re.fullmatch(r"[b0-9][0-9a-z]{9}", button))


def main() -> None:
    """Run the benchmark, or one part of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with WebShop's own files; without it, products are generated")
    parser.add_argument("--products", type=int)
    parser.add_argument("--goals", default="synthetic")
    parser.add_argument("--steps", type=int, default=10_000, help="for each worker")
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--folder", type=Path, help="keep the shop there; one that is there already is used")
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--play", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.data:
        os.environ["WEBSHOP_DATA"] = str(chosen.data)
    options: dict[str, Any] = {"catalog": "webshop" if chosen.data else "generated", "goals": chosen.goals}
    if chosen.products:
        options["products"] = chosen.products
    if chosen.prepare:
        print(json.dumps(prepare(options, chosen.folder)))
    elif chosen.play is not None:
        result, environment = play(options, chosen.folder, chosen.steps, chosen.play)
        print(json.dumps(result), flush=True)
        sys.stdin.readline()
        print(json.dumps(memory()), flush=True)
        sys.stdin.read()
        del environment
    else:
        with tempfile.TemporaryDirectory() as scratch:
            folder = chosen.folder or Path(scratch)
            arguments = [*sys.argv[1:], "--folder", str(folder)]
            done = subprocess.run(
                [sys.executable, __file__, *arguments, "--prepare"], stdout=subprocess.PIPE, text=True, check=True
            )
            results = {str(number): workers(number, arguments) for number in chosen.workers}
        print(json.dumps({"prepare": json.loads(done.stdout), "workers": results}, indent=1))


if __name__ == "__main__":
    main()
