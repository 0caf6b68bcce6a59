"""The signatures of what a release pushed and what it attaches, by the identity of the workflow, without a key.

    python3 -m hack.sign_release --values build/release/pinned.yaml --chart build/release/chart.txt FILE...

Takes cosign, logged in to the registry. An image or a chart is signed by its digest, so a signature covers what is
below it: the images of all platforms, the SBOMs and the provenance. The signature of a file is FILE.sigstore.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hack.release_images import IMAGES


def find_images(values: Mapping[str, Any]) -> list[str]:
    """Return the references of a release's images.

    Args:
        values: the chart's values that hack/release_images.py prints.
    """
    pinned = {name: values["images"][image.key] if image.key else values["image"] for name, image in IMAGES.items()}
    return [f"{values['registry']}/distillery/{name}@{image['digest']}" for name, image in pinned.items()]


def commands(references: list[str], files: list[Path]) -> list[list[str]]:
    """Return the commands that sign. Raises ValueError if a reference is not by digest, for a tag can move."""
    if moving := [reference for reference in references if "@sha256:" not in reference]:
        raise ValueError(f"{', '.join(moving)}: name it by its digest")
    return [
        *(["cosign", "sign", "--yes", reference] for reference in references),
        *(["cosign", "sign-blob", "--yes", f"--bundle={file}.sigstore.json", str(file)] for file in files),
    ]


def main() -> None:
    """Sign everything; stop at the first failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=Path, required=True, help="what hack/release_images.py printed")
    parser.add_argument("--chart", type=Path, required=True, help="what hack/release_chart.py printed")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a file that the release attaches")
    options = parser.parse_args()
    values = json.loads(options.values.read_text(encoding="utf-8"))
    references = [*find_images(values), options.chart.read_text(encoding="utf-8").strip()]
    for command in commands(references, options.files):
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"{' '.join(command)} failed")


if __name__ == "__main__":
    main()
