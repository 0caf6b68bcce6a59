"""hack/sign_release.py and hack/release_chart.py with a fake cosign and a fake helm: what they are asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hack.release_chart import ROOT, push
from hack.sign_release import commands, find_images

DIGESTS = [f"sha256:{character * 64}" for character in "0123"]
VALUES = {
    "registry": "ghcr.io/acme",
    "image": {"digest": DIGESTS[0]},
    "images": {
        "gateway": {"digest": DIGESTS[1]},
        "pipeline": {"digest": DIGESTS[2]},
        "cpuServer": {"digest": DIGESTS[3]},
    },
}
CHART = f"ghcr.io/acme/charts/distillery@sha256:{'a' * 64}"
FAKE_COSIGN = f"""#!{sys.executable}
import os, sys
with open(os.environ["ASKED"], "a") as file:
    print(*sys.argv[1:], file=file)
sys.exit(os.environ["BROKEN"] in sys.argv[-1])
"""
FAKE_HELM = """#!/bin/sh
echo "Pushed: ghcr.io/acme/charts/distillery:1.2.3" >&2
echo "Digest: $DIGEST" >&2
"""


def program(folder: Path, name: str, text: str) -> Path:
    made = folder / name
    made.write_text(text)
    made.chmod(0o755)
    return made


def sign(folder: Path, broken: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The run of the script, and what cosign was asked."""
    program(folder, "cosign", FAKE_COSIGN)
    (folder / "pinned.yaml").write_text(json.dumps(VALUES))
    (folder / "chart.txt").write_text(f"{CHART}\n")
    asked = folder / "asked"
    done = subprocess.run(
        [sys.executable, "-m", "hack.sign_release", f"--values={folder / 'pinned.yaml'}",
         f"--chart={folder / 'chart.txt'}", "a.whl"],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "ASKED": str(asked), "BROKEN": broken},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done, asked.read_text().splitlines()


def test_images_are_named_by_the_digests_of_the_values():
    names = ("operator", "gateway", "pipeline", "server-cpu")
    assert find_images(VALUES) == [f"ghcr.io/acme/distillery/{n}@{d}" for n, d in zip(names, DIGESTS, strict=True)]


def test_images_chart_and_files_are_signed_without_a_key(tmp_path: Path):
    done, asked = sign(tmp_path, "nothing")
    assert done.returncode == 0, done.stderr
    expected = [f"sign --yes {reference}" for reference in (*find_images(VALUES), CHART)]
    assert asked == [*expected, "sign-blob --yes --bundle=a.whl.sigstore.json a.whl"]


def test_signing_stops_when_a_signature_fails(tmp_path: Path):
    done, asked = sign(tmp_path, "distillery/gateway")
    assert done.returncode == 1
    assert "distillery/gateway" in done.stderr
    assert len(asked) == 2


def test_signing_refuses_a_reference_when_it_is_a_tag():
    with pytest.raises(ValueError, match=r"operator:1\.2\.3: name it by its digest"):
        commands(["ghcr.io/acme/distillery/operator:1.2.3"], [])


def test_push_returns_the_digest_that_helm_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIGEST", DIGESTS[0])
    helm = str(program(tmp_path, "helm", FAKE_HELM))
    pushed = push(tmp_path / "x.tgz", "oci://ghcr.io/acme/charts", helm=helm)
    assert pushed == f"ghcr.io/acme/charts/distillery@{DIGESTS[0]}"


def test_push_fails_when_helm_prints_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIGEST", "")
    helm = str(program(tmp_path, "helm", FAKE_HELM))
    with pytest.raises(SystemExit, match="helm push printed no digest"):
        push(tmp_path / "x.tgz", "oci://ghcr.io/acme/charts", helm=helm)
