"""All end-to-end tests, one pytest after the other, so that a run that was interrupted continues where it was.

    make e2e-full                                   everything; a shard that passed on this very tree is not run again
    python -m tests.e2e.shards --only run loop      some of the shards
    python -m tests.e2e.shards --again              all of them, whatever passed

What passed is kept in build/e2e-full, in a folder named after the tree of files as it is, changes that are not
committed included; the logs lie there, too. The exit code is 1 if a shard failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "e2e-full"
_ENVIRONMENT = ("E2E_CONTEXT", "E2E_REGISTRY", "E2E_S3_IMAGE", "DISTILLERY_CLUSTER")
"""Where the tests run: another place is another result."""

SHARDS: Mapping[str, Sequence[str]] = {
    "cluster": ("tests/testbed",),
    "api-server": (
        "tests/e2e/api/test_admission.py",
        "tests/e2e/api/test_apply.py",
        "tests/e2e/api/test_local_operator.py",
        "tests/e2e/api/test_scale.py",
    ),
    "placement": ("tests/e2e/run/test_placement.py",),
    "chart": ("tests/e2e/release/test_chart.py", "tests/e2e/release/test_images.py", "tests/e2e/api/test_versions.py"),
    "idle-runs": ("tests/e2e/run/test_idle_runs.py",),
    "problems": ("tests/e2e/run/test_problems.py", "tests/e2e/run/test_stuck.py"),
    # they share a run
    "run": (
        "tests/e2e/run/test_run.py",
        "tests/e2e/run/test_run_end.py",
        "tests/e2e/serving/test_serving.py",
        "tests/e2e/serving/test_serving_faults.py",
        "tests/e2e/serving/test_serving_feedback.py",
        "tests/e2e/serving/test_serving_canary.py",
        "tests/e2e/serving/test_serving_requests.py",
    ),
    # it installs two releases, one after the other
    "upgrade": ("tests/e2e/release/test_upgrade.py",),
    "merged-weights": ("tests/e2e/serving/test_promotion.py",),
    "faults": ("tests/e2e/run/test_faults.py",),
    "loop": ("tests/e2e/run/test_loop.py",),
    "webshop": ("tests/e2e/run/test_loop_webshop.py",),
    # after all others: the rights that they took are compared with those that were granted
    "rights": ("tests/e2e/api/test_rights.py", "tests/e2e/release/test_uninstall.py"),
    # what `make test` leaves out; it takes no cluster
    "slow": ("-m", "slow", "tests/unit", "tests/integration"),
}
"""The arguments of pytest for each, in the order in which they run."""


@dataclass(frozen=True)
class Result:
    """How a shard ended.

    Attributes:
        shard: its name.
        passed: whether all of its tests did.
        seconds: how long it took.
        line: pytest's last.
        before: whether it passed in an earlier call.
    """

    shard: str
    passed: bool
    seconds: float
    line: str
    before: bool = False


def main() -> int:
    """Run the shards that did not pass yet; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=SHARDS, default=list(SHARDS), metavar="SHARD")
    parser.add_argument("--again", action="store_true", help="run those that passed, too")
    chosen = parser.parse_args()
    folder = KEPT / key(tree(), os.environ)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"logs and results: {folder}", flush=True)
    results = [run(shard, folder, again=chosen.again) for shard in chosen.only]
    print()
    for result in results:
        verdict = ("passed before" if result.before else "passed") if result.passed else "FAILED"
        print(f"{result.shard:<16}{verdict:<16}{result.seconds:>6.0f} s  {result.line}")
    print(f"{sum(result.seconds for result in results):.0f} s in all")
    return int(not all(result.passed for result in results))


def tree() -> str:
    """Return git's name for the tree of files as it is: what is committed, changed and new."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "GIT_INDEX_FILE": str(Path(folder) / "index")}

        def git(*arguments: str) -> str:
            done = subprocess.run(
                ["git", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
            )
            return done.stdout.strip()

        git("read-tree", "HEAD")
        git("add", "--all")
        return git("write-tree")


def key(tree: str, environment: Mapping[str, str]) -> str:
    """Return the name of the folder for what passes on a tree, in a place."""
    place = "-".join(environment[name] for name in _ENVIRONMENT if environment.get(name))
    return tree[:16] + "".join(c if c.isalnum() else "-" for c in f"-{place}" if place)


def run(shard: str, folder: Path, *, again: bool = False) -> Result:
    """Run a shard, unless it passed before."""
    kept, log = folder / f"{shard}.json", folder / f"{shard}.log"
    if kept.exists() and not again:
        return Result(**json.loads(kept.read_text()), before=True)
    kept.unlink(missing_ok=True)
    print(f"{time.strftime('%H:%M:%S')} {shard}: {log}", flush=True)
    environment = {**os.environ, "DISTILLERY_CLUSTER_TESTS": "1"}
    command = [sys.executable, "-m", "pytest", "--durations=10", *SHARDS[shard]]
    began = time.monotonic()
    with log.open("wb") as output:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    lines = log.read_text(errors="replace").split("\n")
    line = next((line.strip("= ") for line in reversed(lines) if line.strip()), "")
    result = Result(shard, done.returncode == 0, round(time.monotonic() - began, 1), line)
    if result.passed:
        values = {name: value for name, value in vars(result).items() if name != "before"}
        kept.with_suffix(".new").write_text(json.dumps(values))
        kept.with_suffix(".new").rename(kept)
    else:
        print("\n".join(line for line in lines if line.startswith(("FAILED", "ERROR"))), flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
