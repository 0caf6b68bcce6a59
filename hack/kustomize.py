"""The Kustomize base, which is the chart with its default values, for teams without Helm.

    python hack/kustomize.py            write it
    python hack/kustomize.py --check    fail if the base differs from the chart

Takes helm. The chart has no default registry, so the images of the base have a placeholder, which an overlay replaces.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "charts" / "kustomize" / "base" / "distillery.yaml"
REGISTRY = "registry.example.com/team"
"""The placeholder."""

RENDER = (
    "template",
    "distillery",
    str(ROOT / "charts" / "distillery"),
    "--namespace=distillery-system",
    f"--set=registry={REGISTRY}",
    "--set=crds.enabled=false",  # the base takes the definition from crds/
)
"""The arguments of helm that render the chart."""

_HEADER = "# Generated from the chart with its default values by `make kustomize`. Do not edit.\n"
_OF_HELM = re.compile(
    r"^ *(?:helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n|^# Source: .*\n|(?<=\n)\n(?=---\n)", re.MULTILINE
)
"""The lines that say that Helm manages an object, and those that only help to debug a chart."""


def generate(rendered: str) -> str:
    """Return the base.

    Args:
        rendered: what helm prints for RENDER.
    """
    return _HEADER + _OF_HELM.sub("", rendered)


def main() -> None:
    """Write or check the base of this repository."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the base is out of date")
    parser.add_argument("--helm", default="helm", help="the program (default: the one in PATH)")
    options = parser.parse_args()
    done = subprocess.run([options.helm, *RENDER], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{options.helm} template failed")
    text = generate(done.stdout)
    if not options.check:
        BASE.write_text(text, encoding="utf-8")
    elif BASE.read_text(encoding="utf-8") != text:
        sys.exit(f"{BASE.relative_to(ROOT)} is not what the chart says: run `make kustomize`")


if __name__ == "__main__":
    main()
