"""A real S3 server on loopback: versitygw, where the cluster's programs were built."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distillery.core.child_processes import free_port
from hack.testbed.places import Places

KEY, SECRET = "distillery", "not-much-of-a-secret"
BUCKET = "runs"


def program() -> str:
    """The path of versitygw; skips the test where there is none."""
    found = shutil.which("versitygw", path=f"{Places.from_environment().bin}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("there is no versitygw: make cluster builds it")
    return found


@contextmanager
def serving(folder: Path) -> Generator[str]:
    """The URL of a server that keeps its buckets in a folder, with an empty bucket ``runs``."""
    (folder / BUCKET).mkdir(parents=True)
    port = free_port()
    command = [program(), "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(folder)]
    variables = {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    with (folder.parent / "versitygw.log").open("wb") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
    try:
        _wait(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "versitygw ended; see its log"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("versitygw does not answer")


def give_keys(patch: pytest.MonkeyPatch) -> None:
    """Let boto3 find the keys of the server in the environment."""
    patch.setenv("AWS_ACCESS_KEY_ID", KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
