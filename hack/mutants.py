"""Mutants of the deciding modules: small changes that the unit tests of the area must notice.

    python -m hack.mutants --count 200 --seed 0    in a copy of the tree (an hour and more)

Each survivor is printed with its file, line and diff. The exit code is 1 if the tests kill less than 95 % of the
mutants. hack/equivalent_mutants.txt lists the mutants that behave like the original; they are not counted, and others
take their places in the sample.

Neither mutmut 3.8 nor cosmic-ray 8.7 can sample by a seed, run other tests for each module, or skip known equivalents.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIN_SCORE = 0.95
DECIDING = {
    "pipeline/distillery": ("core/planner/plan.py", "core/planner/graph.py", "evaluation/gate.py",
                            "evaluation/statistics.py", "training/samples.py", "training/packing.py"),
    "operator/distillery_operator": ("decide/decide.py", "decide/canary/*.py"),
    "gateway/distillery_gateway": ("auth/api_keys.py", "proxy/validation.py", "routing/table.py"),
}  # fmt: skip
"""The modules whose decisions the project stands on, by package."""

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Mutant:
    """A change of a module: `before`, at a span of bytes that begins at a line in a function, becomes `after`.

    `number` counts the changes of a function that read the same.
    """

    path: str
    function: str
    line: int
    span: tuple[int, int]
    before: str
    after: str
    number: int = 1

    @property
    def key(self) -> str:
        """The mutant in one line, without its place in the file: as the list of equivalents names it."""
        key = f"{self.path}::{self.function}: {' '.join(self.before.split())} -> {' '.join(self.after.split())}"
        return f"{key} #{self.number}" if self.number > 1 else key

    def apply(self, source: str) -> str:
        """Return the module with the change."""
        data, (start, end) = source.encode(), self.span
        return (data[:start] + self.after.encode() + data[end:]).decode()

    def diff(self, source: str) -> str:
        """Return the change as a diff."""
        before, after = source.splitlines(), self.apply(source).splitlines()
        return "\n".join(difflib.unified_diff(before, after, self.path, self.path, lineterm="", n=1))


def main() -> int:
    """Run a sample of mutants and print the survivors; 1 if too many survive or the list of equivalents is stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    mutants = [mutant for path in deciding_modules(ROOT) for mutant in find_mutants(path, (ROOT / path).read_text())]
    equivalents = read_equivalents((ROOT / "hack" / "equivalent_mutants.txt").read_text())
    if stale := equivalents.keys() - {mutant.key for mutant in mutants}:
        print("hack/equivalent_mutants.txt: there are no such mutants any more:", *sorted(stale), sep="\n  ")
        return 1
    random.Random(chosen.seed).shuffle(mutants)  # noqa: S311 - no secret
    candidates = [mutant for mutant in mutants if mutant.key not in equivalents]
    sample = candidates[: chosen.count]
    print(f"{len(sample)} of {len(candidates)} mutants, seed {chosen.seed}", flush=True)
    survivors = run(ROOT, sorted(sample))
    score = 1 - len(survivors) / max(len(sample), 1)
    print(f"{len(sample) - len(survivors)} of {len(sample)} mutants killed: {score:.1%} (at least {MIN_SCORE:.0%})")
    return int(score < MIN_SCORE)


def deciding_modules(root: Path) -> list[str]:
    """Return the paths of the deciding modules; ValueError if one of the table is not there."""
    patterns = [f"{package}/{pattern}" for package, patterns in DECIDING.items() for pattern in patterns]
    if missing := [pattern for pattern in patterns if not any(root.glob(pattern))]:
        raise ValueError(f"DECIDING in hack/mutants.py names modules that are not there: {', '.join(missing)}")
    return sorted(path.relative_to(root).as_posix() for pattern in patterns for path in root.glob(pattern))


def tests_of(root: Path, path: str) -> str:
    """Return the folder of the unit tests of a module: the tree of unit tests mirrors the sources."""
    distribution, _, *rooms = Path(path).parent.parts
    folder = root.joinpath("tests", "unit", distribution if distribution != "pipeline" else "", *rooms)
    while not any(folder.rglob("test_*.py")):
        folder = folder.parent
    return folder.relative_to(root).as_posix()


def read_equivalents(text: str) -> dict[str, str]:
    """Return the reason of each key of the list: a line that begins with # above it. ValueError if there is none."""
    lines = [line.strip() for line in text.splitlines()]
    reasons = {line: above for above, line in zip(["", *lines], lines, strict=False) if line and line[0] != "#"}
    if unexplained := [line for line, above in reasons.items() if not above.startswith("# ")]:
        raise ValueError(f"hack/equivalent_mutants.txt: write the reason above each mutant: {unexplained}")
    return reasons


def find_mutants(path: str, source: str) -> list[Mutant]:
    """Return all mutants of a module."""
    starts = [0, *accumulate(len(line) for line in source.encode().splitlines(keepends=True))]

    def visit(node: ast.AST, function: str) -> Iterator[Mutant]:
        for target, changed in _changes(node):
            start = starts[target.lineno - 1] + target.col_offset
            before, after = ast.get_source_segment(source, target) or "", ast.unparse(changed)
            span = (start, start + len(before.encode()))
            after = f"({after})" if isinstance(target, ast.expr) else after
            yield Mutant(path, function, target.lineno, span, before, after)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            function = f"{function}.{node.name}".lstrip(".")
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function)

    seen = Counter[str]()
    mutants = list[Mutant]()
    for mutant in sorted(visit(ast.parse(source), "")):
        seen[mutant.key] += 1
        mutants.append(replace(mutant, number=seen[mutant.key]))
    return mutants


def _changes(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, ast.AST]]:
    """Yield what may be replaced at a node, each with its replacement."""
    match node:
        case ast.Compare(left=left, ops=ops, comparators=others):
            for index, operator in enumerate(ops):
                for swap in _COMPARISONS[type(operator)]:
                    yield node, ast.Compare(left, [*ops[:index], swap(), *ops[index + 1 :]], others)
        case ast.BoolOp(op=operator, values=values):
            yield node, ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
            yield node, ast.BinOp(left, _ARITHMETIC[type(operator)](), right)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield node, operand
        case ast.If(test=test) | ast.IfExp(test=test) | ast.match_case(guard=ast.expr() as test):
            yield from ((test, ast.Constant(value)) for value in (True, False))
        case ast.comprehension(ifs=tests):
            yield from ((test, ast.Constant(value=True)) for test in tests)
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield node, ast.Return()
        case _:
            return


@dataclass(frozen=True)
class Limit:
    """What a run of tests may take: seconds of the CPU, and of the clock for tests that wait for nothing."""

    cpu: float
    clock: float


def run(root: Path, mutants: Sequence[Mutant]) -> list[Mutant]:
    """Run each mutant against the tests of its area in a copy of the tree; print and return those that survive."""
    survivors = list[Mutant]()
    with tempfile.TemporaryDirectory(prefix="distillery-mutants-") as scratch:
        copy, limits = Path(scratch), dict[str, Limit]()
        shutil.copytree(
            root, copy, ignore=shutil.ignore_patterns(".*", "build", "dist", "__pycache__"), dirs_exist_ok=True
        )
        for mutant in mutants:
            tests, file = tests_of(copy, mutant.path), copy / mutant.path
            files = list_tests(copy, mutant.path)
            if tests not in limits:
                cpu, clock = _cpu_seconds(), time.monotonic()
                if not passes(copy, files, Limit(cpu=3600, clock=3 * 3600)):
                    raise RuntimeError(f"{tests} fails without a mutant")
                # a busy machine must not kill a mutant: the clock has much more room than the CPU
                limits[tests] = Limit(60 + 5 * (_cpu_seconds() - cpu), 600 + 20 * (time.monotonic() - clock))
            source = file.read_text()
            file.write_text(mutant.apply(source))
            if passes(copy, files, limits[tests]):
                survivors.append(mutant)
                print(f"survived: {mutant.path}:{mutant.line}\n{mutant.key}\n{mutant.diff(source)}\n", flush=True)
            file.write_text(source)
    return survivors


def list_tests(root: Path, path: str) -> list[str]:
    """Return the files of the unit tests of a module: the one of its name first, for most mutants end there."""
    own = f"test_{Path(path).name}"
    files = (root / tests_of(root, path)).rglob("test_*.py")
    return [file.relative_to(root).as_posix() for file in sorted(files, key=lambda file: (file.name != own, file))]


def passes(copy: Path, tests: Sequence[str], limit: Limit) -> bool:
    """Return whether the tests pass in the copy in time. No bytecode: a mutant may have the size of its original."""
    sources = [file.parent for pattern in ("*", "environments/*") for file in copy.glob(f"{pattern}/pyproject.toml")]
    path = os.pathsep.join([*map(str, sources), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}

    def limit_cpu() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit.cpu), int(limit.cpu) + 5))

    with suppress(subprocess.TimeoutExpired):
        return not subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, timeout=limit.clock, preexec_fn=limit_cpu
        ).returncode
    return False


def _cpu_seconds() -> float:
    """Return the CPU time of all child processes so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
