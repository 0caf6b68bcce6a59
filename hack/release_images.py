"""The release of the images: build them on pinned bases, push them, and print the chart's values that pin them in turn.

    python3 hack/release_images.py registry.example.com/team 0.1.0-alpha.2 > pinned.yaml
    helm install distillery charts/distillery --values pinned.yaml

Takes docker with a builder of buildx that builds the platforms, logged in to the registry. Each image gets two
attestations, its SBOM and its provenance, which are below the same digest. No digest is kept in the repository: each is
looked up when a release is made, of the tag that the Dockerfile names.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BASE = re.compile(r"^ARG (?P<argument>[A-Z]+_IMAGE)=(?P<image>\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a release.

    Attributes:
        folder: of its Dockerfile.
        key: its name in the chart's ``images``; the operator's is ``image``, and has none.
        platforms: what it is built for.
    """

    folder: str
    key: str
    platforms: tuple[str, ...] = ("linux/amd64",)


_BOTH = ("linux/amd64", "linux/arm64")

IMAGES = {
    "operator": Image("operator", "", _BOTH),
    "gateway": Image("gateway", "gateway", _BOTH),
    "pipeline": Image("pipeline", "pipeline"),  # what needs torch was never tried on arm64
    "server-cpu": Image("pipeline", "cpuServer"),
}
"""The images by name."""


def main() -> None:
    """Build, push, and print JSON, which is YAML."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("registry", help="where to push to, with folders")
    parser.add_argument("tag", help="of all images, besides their digests")
    chosen = parser.parse_args()
    values: dict[str, Any] = {"registry": chosen.registry, "images": {}}
    for name, image in IMAGES.items():
        digest = build(name, image, f"{chosen.registry}/distillery/{name}:{chosen.tag}")
        pinned_image = {"tag": chosen.tag, "digest": digest}
        if image.key:
            values["images"][image.key] = pinned_image
        else:
            values["image"] = pinned_image
    print(json.dumps(values, indent=2))


def build(name: str, image: Image, reference: str) -> str:
    """Build an image, push it with its attestations, and return the digest in the registry of all of it."""
    dockerfile = Path("images", image.folder, "Dockerfile")
    text = (ROOT / dockerfile).read_text()
    arguments = [f"--build-arg={base['argument']}={pin(base['image'])}" for base in BASE.finditer(text)]
    targets = [f"--target={name}"] if f" AS {name}\n" in text else []
    with tempfile.TemporaryDirectory() as made:
        metadata = Path(made, "metadata.json")
        docker(
            "buildx", "build", f"--file={dockerfile}", *targets, *arguments, f"--tag={reference}", "--push",
            f"--platform={','.join(image.platforms)}", "--sbom=true", "--provenance=mode=max",
            f"--metadata-file={metadata}", ".",
        )  # fmt: skip
        return json.loads(metadata.read_text())["containerimage.digest"]


def pin(image: str) -> str:
    """Return the image that a tag stands for now, by its digest."""
    repository, _, _ = image.rpartition(":")
    found = docker("buildx", "imagetools", "inspect", image, "--format={{json .Manifest.Digest}}")
    return f"{repository}@{json.loads(found)}"


def docker(*arguments: str) -> str:
    """Return what docker prints. Ends the program if docker fails, for it has said why."""
    done = subprocess.run(["docker", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"docker {' '.join(arguments)} failed")
    return done.stdout


if __name__ == "__main__":
    main()
