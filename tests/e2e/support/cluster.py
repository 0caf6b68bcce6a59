"""The cluster that the tests run on: a real node made on this machine, or the one of a kube context."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.e2e import caps

# Generous: these machines vary tenfold in speed.
PATIENCE = 1800.0

RUN = "drun"

RELEASE = "distillery"
"""Of the chart, and so the name of the operator's Deployment."""


@dataclass(frozen=True)
class Cluster:
    """kubectl and helm on one cluster.

    Attributes:
        variables: environment of both.
        context: of the kubeconfig; empty for its current one.
    """

    variables: dict[str, str] = field(default_factory=dict)
    context: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """Of every program."""
        return {**os.environ, **self.variables}

    def run(
        self, *command: str, stdin: str | None = None, timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout, env=self.environment, check=False
        )

    def helm(self, *arguments: str) -> str:
        """What helm prints. Raises AssertionError with what it said if it fails."""
        context = [f"--kube-context={self.context}"] if self.context else []
        done = self.run("helm", *context, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def start(self, *command: str, log: Path) -> Generator[subprocess.Popen[bytes]]:
        """A program that runs meanwhile."""
        with (
            log.open("wb") as output,
            subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=self.environment) as process,
        ):
            try:
                yield process
            finally:
                process.terminate()

    def namespace(self, name: str) -> Namespace:
        """A namespace, whether it is there or not."""
        return Namespace(self, name)


@dataclass(frozen=True)
class Namespace:
    """kubectl in a namespace."""

    cluster: Cluster
    name: str

    def try_kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl, whatever comes of it."""
        return self.cluster.run(*self._command(*arguments), stdin=stdin)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints. Raises AssertionError with what it said if it fails."""
        done = self.try_kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def _command(self, *arguments: str) -> list[str]:
        context = [f"--context={self.cluster.context}"] if self.cluster.context else []
        return ["kubectl", *context, f"--namespace={self.name}", *arguments]

    def create(self) -> None:
        """Make the namespace, with restricted pod security enforced."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name, "labels": labels}}
        self.apply(manifest)

    def remove(self) -> None:
        """Begin to delete the namespace, if it is there.

        Its Jobs too: Kubernetes deletes pods first and keeps a failed one of an Indexed Job until its replacement is
        there, which nothing may create any more.
        """
        self.kubectl("delete", "namespace", self.name, "--ignore-not-found", "--wait=false")
        self.kubectl("delete", "jobs", "--all", "--wait=false")

    def apply(self, manifest: dict[str, Any]) -> None:
        """kubectl apply."""
        if manifest["kind"] == "DistillationRun" and not manifest["spec"].get("suspend"):
            caps.RUNS.count(f"{self.name}/{manifest['metadata']['name']}")
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(manifest))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """An object; empty if it is not there."""
        done = self.try_kubectl("get", kind, name, "--output=json", "--ignore-not-found")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a kind."""
        return json.loads(self.kubectl("get", kind, f"--selector={selector}", "--output=json"))["items"]

    def status(self, run: str) -> dict[str, Any]:
        """The status of a run."""
        return self.get(RUN, run).get("status", {})

    def condition(self, run: str, kind: str) -> dict[str, Any]:
        """A condition of a run; empty before it is set."""
        return next((c for c in self.status(run).get("conditions", []) if c["type"] == kind), {})

    def stage(self, run: str, name: str) -> dict[str, Any]:
        """The record of a stage in the status; empty before it is started."""
        return next((s for s in self.status(run).get("stages", []) if s["name"] == name), {})

    def pods_of(self, stage: str) -> list[dict[str, Any]]:
        """The pods of a stage."""
        return self.list("pods", f"distillery.dev/stage={stage}")

    def wait_for(self, what: str, holds: Callable[[], object], *, run: str = "", seconds: float = PATIENCE) -> None:
        """Wait until something holds; if it does not, or the run fails, fail with all that is known."""
        deadline = time.monotonic() + seconds
        while not holds():
            failed = run and self.condition(run, "Failed").get("status") == "True"
            if failed or time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come about.\n{self.describe()}")
            time.sleep(0.5)

    def describe(self) -> str:
        """All that is known of the namespace, for a failed test."""
        parts = [
            self.try_kubectl("get", "drun,all,pvc", "--output=wide").stdout,
            self.try_kubectl("get", RUN, "--output=yaml").stdout[-6000:],
            self.try_kubectl("get", "events", "--sort-by=.lastTimestamp").stdout[-4000:],
        ]
        for pod in self.list("pods"):
            if pod["status"].get("phase") in ("Failed", "Pending"):
                name = pod["metadata"]["name"]
                parts.append(f"--- {name}\n{self.try_kubectl('logs', name, '--all-containers', '--tail=40').stdout}")
        return "\n".join(parts)

    @contextmanager
    def forward(self, target: str, port: int) -> Generator[str]:
        """A local address of a port of a Service or a pod, by kubectl port-forward."""
        with self._listening("port-forward", target, f":{port}", "--address=127.0.0.1") as address:
            yield address

    @contextmanager
    def proxy(self) -> Generator[str]:
        """A local address of the API server, which asks for no credentials, by kubectl proxy."""
        with self._listening("proxy", "--port=0") as address:
            yield address

    @contextmanager
    def _listening(self, *arguments: str) -> Generator[str]:
        """The address that a kubectl says it listens on."""
        command = self._command(*arguments)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.cluster.environment) as process:
            try:
                assert process.stdout is not None
                found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
                assert found, f"kubectl {arguments[0]} says where it listens"
                yield found[0]
            finally:
                process.terminate()
