"""The release of the chart: package it for an owner on GitHub, push it, and print its reference by digest.

    python3 hack/release_chart.py --owner acme                                    package it into build/release
    python3 hack/release_chart.py --owner acme --push oci://ghcr.io/acme/charts   and push it

Takes helm, which has to be logged in to the registry to push. The repository does not know who publishes it: the
package has the owner in place of OWNER in Chart.yaml.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "distillery"
OUT = ROOT / "build" / "release"

_DIGEST = re.compile(r"^Digest: (sha256:[0-9a-f]{64})$", re.MULTILINE)


def package(owner: str, out: Path, *, helm: str = "helm") -> Path:
    """Return the archive of the chart that an owner publishes."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as copies:
        chart = Path(copies, CHART.name)
        shutil.copytree(CHART, chart)
        shutil.copy(ROOT / "LICENSE", chart)
        metadata = chart / "Chart.yaml"
        metadata.write_text(name_owner(metadata.read_text(encoding="utf-8"), owner), encoding="utf-8")
        printed = _run(helm, "package", str(chart), f"--destination={out}")
    return Path(printed.rpartition("saved it to: ")[2].strip())


def name_owner(metadata: str, owner: str) -> str:
    """Return a Chart.yaml with its owner. Names of images and hosts are in lower case."""
    lower = metadata.replace("ghcr.io/OWNER/", f"ghcr.io/{owner.lower()}/")
    return lower.replace("//OWNER.github.io", f"//{owner.lower()}.github.io").replace("/OWNER/", f"/{owner}/")


def push(archive: Path, registry: str, *, helm: str = "helm", options: tuple[str, ...] = ()) -> str:
    """Push an archive and return the reference of the chart, by digest and without a scheme."""
    printed = _run(helm, "push", str(archive), registry, *options)
    found = _DIGEST.search(printed)
    if not found:
        sys.exit(f"helm push printed no digest:\n{printed}")
    return f"{registry.removeprefix('oci://')}/{CHART.name}@{found[1]}"


def _run(*command: str) -> str:
    """Return all that a program prints, for helm prints digests as messages; end the program if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}")
    return done.stdout


def main() -> None:
    """Package and push; what is printed is the reference, or the archive if nothing is pushed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owner", required=True, help="the user or organization on GitHub")
    parser.add_argument("--push", metavar="REGISTRY", help="push there, such as oci://ghcr.io/acme/charts")
    parser.add_argument("--plain-http", action="store_true", help="push to a registry without TLS")
    parser.add_argument("--helm", default="helm", help="the program (default: the one in PATH)")
    options = parser.parse_args()
    archive = package(options.owner, OUT, helm=options.helm)
    if not options.push:
        print(archive)
        return
    insecure = ("--plain-http",) if options.plain_http else ()
    print(push(archive, options.push.lower(), helm=options.helm, options=insecure))


if __name__ == "__main__":
    main()
