"""docs/tutorial.md: its files and commands, taken from the page, do what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.loop import PATIENCE
from tests.paths import ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "tutorial.md").read_text()
FILE = re.compile(r"^`(?P<name>\S+)`:\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def output(folder: Path) -> str:
    """The page followed in a folder of its own, and what its commands printed."""
    (folder / "models").symlink_to(ROOT / "models")
    for file in FILE.finditer(PAGE):
        path = folder / file["name"]
        path.parent.mkdir(exist_ok=True)
        path.write_text(file["text"])
    variables = {
        **{name: value for name, value in os.environ.items() if name != "DISTILLERY_DATABASE_URL"},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "DISTILLERY_HOME": str(folder / "home"),
        "COLUMNS": "200",
        # installed next to the tests' own packages, not among them
        "PIP_TARGET": str(folder / "packages"),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "false",  # pip's way to say yes
        "PYTHONPATH": os.pathsep.join([str(folder / "packages"), os.environ["PYTHONPATH"]]),
    }
    commands = "\n".join(COMMANDS.findall(PAGE))
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_commands_of_the_tutorial_train_a_better_student(output: str, folder: Path):
    assert "You are in the middle of a room." in output
    assert re.search(r"You arrive at \w+ 1\. On the \w+ 1, you see ", output)
    assert re.search(r"look for a \w+ in \w+", output)
    run = folder / "home" / "runs" / "default" / "house"
    report = json.loads((run / "report" / "report.json").read_text())
    assert report["environment"]["source"] == "house"
    (prepared,) = run.glob("*/prepare-*/tasks.json")
    tasks = json.loads(prepared.read_text())
    assert all(task["category"] for task in tasks["train"] + tasks["evaluate"])
    arms = {name: arm["success"] for name, arm in report["arms"].items()}
    assert arms["distilled"] > arms["baseline"], arms
