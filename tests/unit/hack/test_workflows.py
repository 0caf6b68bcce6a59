"""The workflows of GitHub: their actions are pinned, their rights are named, and their targets exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
MAKEFILE = (ROOT / "Makefile").read_text()

of_each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    return yaml.safe_load(path.read_text())["jobs"]


def commands(path: Path) -> Iterator[str]:
    """The commands of a workflow, one line each."""
    for job in jobs(path).values():
        for step in job["steps"]:
            yield from step.get("run", "").splitlines()


@of_each
def test_every_action_is_pinned_by_a_commit_with_its_version(path: Path):
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    assert [line for line in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


@of_each
def test_workflow_has_no_right_to_write_beyond_its_jobs(path: Path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] in ({}, {"contents": "read"})


@of_each
def test_every_job_of_a_workflow_has_a_limit_of_time(path: Path):
    assert [name for name, job in jobs(path).items() if "timeout-minutes" not in job] == []


@of_each
def test_every_target_that_a_workflow_makes_exists(path: Path):
    made = [line.split()[1] for line in commands(path) if line.startswith("make ")]
    (job, *_) = jobs(path).values()
    made += job.get("strategy", {}).get("matrix", {}).get("target", [])
    assert made
    for target in made:
        assert "${{" in target or f"\n{target}:" in MAKEFILE, target


@of_each
def test_no_command_of_a_workflow_contains_an_expression(path: Path):
    taken = [line for line in commands(path) if "${{" in line]
    assert [line for line in taken if line != "make ${{ matrix.target }}"] == [], "pass it as a variable of env"


def test_only_two_jobs_of_a_release_get_an_identity():
    release = jobs(ROOT / ".github" / "workflows" / "release.yaml")
    assert {name for name, job in release.items() if "id-token" in job["permissions"]} == {"push", "pypi"}
    assert {name for name, job in release.items() if job["permissions"].get("contents") == "write"} == {"github"}
