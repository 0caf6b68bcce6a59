"""The README's picture of a report, docs/report.png, from a run of the demonstration on fewer games.

    python -m hack.pictures.report_screenshot                run (10 minutes), then take the picture
    python -m hack.pictures.report_screenshot report.json    take the picture of this report

The run has a folder of runs of its own. It resumes if it was stopped, and is not repeated once it has ended. The
picture needs Chromium.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

from distillery.local.workspace import home
from distillery.report.page import render_page
from scripts.demo import wait_for
from tests.integration.chromium import find_chromium

ROOT = Path(__file__).resolve().parents[2]
HOME = home().with_name("distillery-screenshot")
PICTURE = ROOT / "docs" / "report.png"
RUN = "alfworld-micro"
SETTINGS = (
    "spec.environment.tasks.train=200",
    "spec.environment.tasks.evaluate=100",
    "spec.evaluation.arms=[baseline, rag, placebo, sft, distilled]",
)

WIDTH, HEIGHT, SCALE = 1024, 792, 1.25
"""The window in CSS pixels, and the pixels of the picture for each."""
FRAME = "#d0d7de"
"""The color of the line around the picture."""
MAX_BYTES = 250_000


def main(arguments: list[str]) -> int:
    """Take the picture. Return the exit code of the command that failed, if one did."""
    program = find_chromium()
    if program is None:
        print("no chromium on the path: apt-get install chromium", file=sys.stderr)
        return 1
    if arguments:
        report = Path(arguments[0])
    else:
        command = [Path(sys.executable).with_name("distillery"), "run", ROOT / "examples" / "demo.yaml"]
        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        os.environ["DISTILLERY_HOME"] = str(HOME)
        if code := wait_for([*command, *settings]):
            return code
        report = HOME / "runs" / "default" / RUN / "report" / "report.json"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(render_page(json.loads(report.read_text(encoding="utf-8"))), encoding="utf-8")
        take(program, page, PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")
    return 0


def take(program: str, page: Path, picture: Path) -> None:
    """Write the first screen of a page in the light scheme as a PNG with a palette and a frame.

    Args:
        program: The path of Chromium.
        page: The HTML file.
        picture: The file to write.

    Raises:
        ValueError: The picture has more than :data:`MAX_BYTES` bytes.
    """
    with tempfile.TemporaryDirectory(prefix="distillery-chromium-", ignore_cleanup_errors=True) as profile:
        shot = Path(profile) / "shot.png"
        flags = ["--headless=new", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []
        flags += [f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}"]
        flags += [f"--force-device-scale-factor={SCALE}", f"--screenshot={shot}"]
        subprocess.run([program, *flags, page.as_uri()], check=True, stderr=subprocess.DEVNULL)
        framed = ImageOps.expand(ImageOps.crop(Image.open(shot).convert("RGB"), 1), 1, FRAME)
        framed.quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)
    if (size := picture.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{picture} has {size} bytes: at most {MAX_BYTES}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
