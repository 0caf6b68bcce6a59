"""hack/release_images.py with a fake docker: what it is asked, and the values that come out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.paths import ROOT

# It records its arguments. Digests are made of names, so that all differ.
FAKE_DOCKER = f"""#!{sys.executable}
import hashlib, json, os, sys
asked = sys.argv[1:]
with open(os.environ["ASKED"], "a") as file:
    file.write(json.dumps(asked) + "\\n")
def digest(name):
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()
if asked[1] == "imagetools":
    print(json.dumps(digest(asked[3])))
else:
    options = dict(word[2:].split("=", 1) for word in asked if "=" in word)
    if options["tag"].endswith(os.environ.get("BROKEN", "nothing")):
        sys.exit("no space left")
    with open(options["metadata-file"], "w") as file:
        json.dump({{"containerimage.digest": digest(options["tag"])}}, file)
"""


def release(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    docker = folder / "docker"
    docker.write_text(FAKE_DOCKER)
    docker.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "ASKED": str(folder / "asked"), **variables}
    return subprocess.run(
        [sys.executable, ROOT / "hack" / "release_images.py", "registry.example.com/team", "1.2.3"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_images_are_built_on_pinned_bases_and_named_by_their_digests(tmp_path: Path):
    done = release(tmp_path)
    assert done.returncode == 0, done.stderr
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
    builds = [words for words in asked if words[1] == "build"]
    assert {word for words in builds for word in words if word.startswith(("--tag", "--target"))} == {
        *(f"--tag=registry.example.com/team/distillery/{n}:1.2.3" for n in ("operator", "gateway", "pipeline")),
        "--tag=registry.example.com/team/distillery/server-cpu:1.2.3", "--target=pipeline", "--target=server-cpu",
    }  # fmt: skip
    for words in builds:
        (dockerfile,) = (word.partition("=")[2] for word in words if word.startswith("--file="))
        bases = [word for word in words if word.startswith("--build-arg=")]
        assert len(bases) == (ROOT / dockerfile).read_text().count("\nARG ")
        assert all("@sha256:" in base for base in bases)
    values = yaml.safe_load(done.stdout)
    pinned = [values["image"], *values["images"].values()]
    assert values["images"].keys() == {"gateway", "pipeline", "cpuServer"}
    assert len({image["digest"] for image in pinned}) == 4
    chart = yaml.safe_load((ROOT / "charts/distillery/values.yaml").read_text())
    assert values.keys() <= chart.keys()
    assert values["images"].keys() <= chart["images"].keys()


def test_images_without_torch_are_built_for_arm64_when_released(tmp_path: Path):
    release(tmp_path)
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
    platforms = {
        re.sub(r".*/(.*):.*", r"\1", option(words, "tag")): option(words, "platform")
        for words in asked
        if words[1] == "build"
    }
    amd64, both = "linux/amd64", "linux/amd64,linux/arm64"
    assert platforms == {"operator": both, "gateway": both, "pipeline": amd64, "server-cpu": amd64}


def test_every_image_has_its_attestations_when_released(tmp_path: Path):
    release(tmp_path)
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
    builds = [words for words in asked if words[1] == "build"]
    assert [(option(words, "sbom"), option(words, "provenance")) for words in builds] == [("true", "mode=max")] * 4


def option(words: list[str], name: str) -> str:
    """The value of an option that a command has once."""
    (value,) = (word.partition("=")[2] for word in words if word.startswith(f"--{name}="))
    return value


@pytest.mark.parametrize("image", ["operator", "server-cpu"])
def test_nothing_is_printed_when_a_build_fails(tmp_path: Path, image: str):
    done = release(tmp_path, BROKEN=f"{image}:1.2.3")
    assert done.returncode != 0
    assert done.stdout == ""
    assert "no space left" in done.stderr
    assert "failed" in done.stderr
