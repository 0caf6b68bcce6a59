"""The build of the Python distributions, an sdist and a wheel of each package, into dist/.

    python3 hack/build_dists.py                     in an environment with the pinned setuptools (network)
    python3 hack/build_dists.py --no-isolation      with the setuptools of this Python

Takes uv. Each package is built from a copy, so that no file of an earlier build gets in, and each has the license.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = ROOT / ".venv" / "bin" / "uv"

PACKAGES = ("pipeline", "operator", "gateway", "environments/alfworld", "environments/webshop")
"""The folders with a pyproject.toml."""

CONSTRAINTS = ROOT / "requirements" / "local.txt"
"""The pinned requirements; setuptools is one of them."""


def build(out: Path, *, uv: Path = UV, isolated: bool = True) -> None:
    """Build all distributions. Ends the program if one fails, for uv has printed why.

    Args:
        out: the folder to write to; distributions of earlier builds are deleted.
        uv: the program.
        isolated: whether to install setuptools for the build, with its hash checked.
    """
    out.mkdir(parents=True, exist_ok=True)
    for earlier in (*out.glob("distillery_*.tar.gz"), *out.glob("distillery_*.whl")):
        earlier.unlink()
    environment = [f"--build-constraints={CONSTRAINTS}", "--require-hashes"] if isolated else ["--no-build-isolation"]
    with tempfile.TemporaryDirectory() as copies:
        for name in PACKAGES:
            source = Path(copies, name)
            shutil.copytree(ROOT / name, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
            shutil.copy(ROOT / "LICENSE", source)
            done = subprocess.run(
                [uv, "build", "--quiet", "--no-sources", f"--python={sys.executable}", *environment,
                 f"--out-dir={out.resolve()}", "--no-create-gitignore", source],
                check=False,
            )  # fmt: skip
            if done.returncode:
                sys.exit(f"uv build of {name} failed")


def main() -> None:
    """Build, and print the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder (default: dist)")
    parser.add_argument("--uv", type=Path, default=UV, help="the program (default: that of .venv)")
    parser.add_argument("--no-isolation", action="store_true", help="use the setuptools of this Python")
    options = parser.parse_args()
    build(options.out, uv=options.uv, isolated=not options.no_isolation)
    print(*sorted(file.name for file in options.out.glob("distillery_*")), sep="\n")


if __name__ == "__main__":
    main()
