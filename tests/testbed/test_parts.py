"""What the node decides, without a node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hack.testbed.client import audit
from hack.testbed.control_plane import provisioner
from hack.testbed.errors import ClusterError
from hack.testbed.images import run_mounts
from hack.testbed.images.store import bases, qualify
from hack.testbed.machine import processes, programs
from hack.testbed.machine.processes import Component
from hack.testbed.places import Places

SLEEP = Component(name="test-sleep", command=("sleep", "600"), environment={"PATH": os.environ["PATH"]})


@pytest.fixture(autouse=True)
def nothing_sleeps():
    yield
    processes.stop("test-sleep")


def pid() -> int:
    (found,) = (process.pid for process in processes.processes() if process.mark == SLEEP.mark)
    return found


def test_process_is_started_once(tmp_path: Path):
    assert processes.start(SLEEP, tmp_path)
    first = pid()
    assert not processes.start(SLEEP, tmp_path)
    assert pid() == first


def test_zombie_does_not_count_as_running(tmp_path: Path):
    processes.start(SLEEP, tmp_path)
    victim = pid()
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes.running(SLEEP):
        assert time.monotonic() < deadline
    os.kill(victim, 0)  # nobody has waited for it, so its number is still taken
    assert processes.start(SLEEP, tmp_path)
    assert pid() != victim


def test_process_is_restarted_when_its_files_changed(tmp_path: Path):
    file = tmp_path / "configuration"
    file.write_text("a")
    sleep = replace(SLEEP, reads=(file,))
    assert processes.start(sleep, tmp_path)
    assert not processes.start(sleep, tmp_path)
    file.write_text("b")
    assert processes.start(sleep, tmp_path)
    assert len([process for process in processes.processes() if process.mark.startswith("test-sleep@")]) == 1


def test_failed_start_shows_the_log_of_the_process(tmp_path: Path):
    broken = replace(SLEEP, enter=("sh", "-c", "echo why >&2; exit 1"))
    with pytest.raises(ClusterError, match="test-sleep does not start; its log ends with:\nwhy"):
        processes.start(broken, tmp_path)


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("app", "docker.io/library/app:latest"),
        ("app:1", "docker.io/library/app:1"),
        ("me/app:1", "docker.io/me/app:1"),
        ("localhost/app", "localhost/app:latest"),
        ("example.com:5000/app", "example.com:5000/app:latest"),
    ],
)
def test_short_names_are_completed_as_kubernetes_does(tag: str, name: str):
    assert qualify(tag) == name


def test_bases_of_a_dockerfile_are_its_images_and_not_its_stages():
    text = (
        "FROM --platform=linux/amd64 python:3.11-slim AS build\nRUN true\nfrom scratch as no\nFROM Build\nFROM a/b:1\n"
    )
    assert bases(text) == ["docker.io/library/python:3.11-slim", "docker.io/a/b:1"]


def test_bases_are_the_defaults_of_build_arguments():
    text = "ARG PYTHON=python:3.11-slim\nFROM ${PYTHON} AS build\nFROM build\n"
    assert bases(text) == ["docker.io/library/python:3.11-slim"]


def test_new_version_and_other_flags_mean_another_build():
    source = programs.SOURCES[0]
    keys = {source.key, replace(source, version="v2").key, replace(source, tags="x").key, replace(source).key}
    assert len(keys) == 3


def test_programs_are_missing_until_their_folder_is_there(tmp_path: Path):
    places = Places(tmp_path)
    assert len(programs.missing(places)) == len(programs.SOURCES)
    for source in programs.API_SERVER:
        (places.programs / source.key).mkdir(parents=True)
    left = programs.missing(places)
    assert len(left) == len(programs.SOURCES) - 2
    assert not any(name.startswith(("etcd", "kube-apiserver")) for name in left)


def test_pip_settings_are_read_from_the_environment_and_its_files(tmp_path: Path):
    file = tmp_path / "pip.conf"
    file.write_text("[global]\ntimeout = 5\nretries = 1\n[install]\nuser = true\n")
    found = run_mounts.pip_settings({"PIP_TIMEOUT": "9", "PIP_TARGET": "/x", "PIP_FIND_LINKS": "/w"}, [file])
    assert found == {"timeout": "9", "retries": "1", "find-links": "/w"}


def test_uv_gets_the_settings_of_pip():
    settings = tomllib.loads(run_mounts.uv({"index-url": "a", "find-links": "/w b", "timeout": "9"}))
    assert settings == {"native-tls": True, "index-url": "a", "find-links": ["/w", "b"]}


def claim(uid: str, **spec: Any) -> dict[str, Any]:
    annotations = {"volume.kubernetes.io/selected-node": "node"}
    metadata = {"name": uid, "namespace": "n", "uid": uid, "annotations": annotations}
    return {"metadata": metadata, "spec": {"storageClassName": "local", **spec}}


def volume(name: str, phase: str, by: str = provisioner.PROVISIONER) -> dict[str, Any]:
    annotations = {"pv.kubernetes.io/provisioned-by": by}
    return {"metadata": {"name": name, "annotations": annotations}, "status": {"phase": phase}}


def test_claim_gets_one_volume():
    assert provisioner.plan([claim("a")], [], []).create == (claim("a"),)
    assert provisioner.plan([claim("a")], [volume("pvc-a", "Available")], ["pvc-a"]) == provisioner.Plan((), (), ())


def test_claim_gets_no_volume_when_it_is_bound_foreign_or_unscheduled():
    unscheduled = claim("c")
    unscheduled["metadata"]["annotations"] = {}
    others = [claim("a", volumeName="v"), claim("b", storageClassName="other"), unscheduled]
    assert provisioner.plan(others, [], []) == provisioner.Plan((), (), ())


def test_released_volumes_and_orphaned_folders_are_deleted():
    volumes = [volume("pvc-a", "Released"), volume("pvc-b", "Bound"), volume("x", "Released", by="other")]
    found = provisioner.plan([claim("new")], volumes, ["pvc-a", "pvc-b", "pvc-gone", "pvc-new"])
    assert found == provisioner.Plan((claim("new"),), ("pvc-a",), ("pvc-gone",))


def test_folder_is_used_again_when_a_kill_left_it_without_a_volume():
    assert provisioner.plan([claim("a")], [], ["pvc-a"]) == provisioner.Plan((claim("a"),), (), ())


def test_audit_log_is_read_for_one_user():
    def event(
        user: str,
        verb: str,
        target: dict[str, str] | None,
        decision: str = "allow",
        code: int = 200,
        day: str = "01-02",
    ) -> str:
        about = {"annotations": {"authorization.k8s.io/decision": decision}, "responseStatus": {"code": code}}
        asked = {
            "user": {"username": user},
            "verb": verb,
            "objectRef": target,
            "requestReceivedTimestamp": f"2026-{day}",
        }
        return json.dumps({**asked, **about})

    pods = {"resource": "pods", "namespace": "n", "subresource": "log"}
    jobs = {"resource": "jobs", "apiGroup": "batch"}
    claims = {"resource": "persistentvolumeclaims", "namespace": "n"}
    lines = [event("me", "get", pods)] * 2 + [
        event("me", "list", jobs, "forbid"),
        event("me", "get", None),
        event("me", "patch", claims, code=201),
        event("me", "patch", pods),
        event("me", "watch", pods, day="01-01"),
        event("other", "delete", pods),
    ]
    assert audit.of_user(lines, "me", since="2026-01-02") == {
        audit.Request(group="", resource="pods/log", verb="get", namespace="n", allowed=True),
        audit.Request(group="", resource="pods/log", verb="patch", namespace="n", allowed=True),
        audit.Request(group="", resource="persistentvolumeclaims", verb="patch", namespace="n", allowed=True),
        audit.Request(group="", resource="persistentvolumeclaims", verb="create", namespace="n", allowed=True),
        audit.Request(group="batch", resource="jobs", verb="list", namespace="", allowed=False),
    }


def test_help_shows_typical_use():
    done = subprocess.run([sys.executable, "-m", "hack.testbed", "--help"], capture_output=True, text=True, check=True)
    assert "typical use:" in done.stdout
