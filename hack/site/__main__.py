"""The build of the site into build/docs/site, which fails on what is wrong with it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from hack.site.check import find_navigation_problems, find_problems
from hack.site.stage import DOCS, BrokenLink, stage

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "docs"
HERE = Path(__file__).parent

_COLOR = re.compile(r"\x1b\[[0-9;]*m")


def main() -> None:
    """Stage, build and check. Ends with 1 and every problem on a line of its own."""
    configuration = (HERE / "zensical.toml").read_text(encoding="utf-8")
    docs = [path.relative_to(ROOT / DOCS).as_posix() for path in (ROOT / DOCS).rglob("*.md")]
    problems = find_navigation_problems(tomllib.loads(configuration)["project"]["nav"], docs)
    if problems:
        _fail(problems)
    if BUILD.exists():
        shutil.rmtree(BUILD)
    try:
        stage(ROOT, BUILD / DOCS)
    except BrokenLink as error:
        _fail([str(error)])
    shutil.copytree(HERE / "overrides", BUILD / "overrides")
    shutil.copy(HERE / "site.css", BUILD / DOCS)
    (BUILD / "zensical.toml").write_text(configuration, encoding="utf-8")
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=BUILD,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if built.returncode:
        sys.exit(_COLOR.sub("", built.stderr.partition("Traceback (most recent call last)")[0]))
    if problems := find_problems(BUILD / "site"):
        _fail(problems)
    folder = (BUILD / "site").relative_to(ROOT)
    print(f"The site is in {folder}. To read it: python3 -m http.server --directory {folder}")


def _fail(problems: list[str]) -> None:
    print(*problems, sep="\n", file=sys.stderr)
    sys.exit(f"{len(problems)} problems of the documentation site")


if __name__ == "__main__":
    main()
