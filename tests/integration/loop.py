"""Running ``distillery`` as its user does: as a command, with a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg.rows import dict_row

COMMAND = Path(sys.executable).with_name("distillery")
MICRO = Path(__file__).parents[2] / "models" / "micro"

# Generous: the machines that run the tests vary tenfold in speed.
PATIENCE = 900.0


def document(name: str, *, model: Path = MICRO, **spec: Any) -> dict[str, Any]:
    """Return a run that is small enough for a test, with parts of its spec replaced."""
    return {
        "apiVersion": "distillery.dev/v1alpha1",
        "kind": "DistillationRun",
        "metadata": {"name": name},
        "spec": {
            "environment": {
                "name": "alfworld",
                "maxSteps": 15,
                "tasks": {"train": 48, "evaluate": 32, "evaluateSplit": "valid_seen"},
                "options": {"games": "generated"},
            },
            "agent": {"name": "plain"},
            "models": {"student": {"model": str(model)}},
            "rollout": {"temperature": 0.7, "leaseSeconds": 20},
            "hints": {"topK": 2},
            "training": {
                "lora": {"rank": 8, "alpha": 16, "dropout": 0.0},
                "learningRate": 0.004,
                "epochs": 8,
                "batchSize": 4,
                "packedSequenceLength": 2048,
            },
            "evaluation": {"arms": ["baseline", "distilled"]},
            **spec,
        },
    }


@dataclass
class Home:
    """A folder for runs, and the environment that points the command there.

    Args:
        folder: where documents and runs are kept.
        variables: more environment variables.
    """

    folder: Path
    variables: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """Of every command run here."""
        kept = {
            key: value for key, value in os.environ.items() if key not in ("ALFWORLD_DATA", "DISTILLERY_DATABASE_URL")
        }
        return {**kept, "DISTILLERY_HOME": str(self.folder / "home"), "COLUMNS": "200", **self.variables}

    def write(self, run: Mapping[str, Any]) -> Path:
        """Save a document."""
        path = self.folder / f"{run['metadata']['name']}.yaml"
        path.write_text(yaml.safe_dump(dict(run)))
        return path

    def call(self, *arguments: str | Path, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [COMMAND, *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    @contextmanager
    def start(self, *arguments: str | Path) -> Generator[subprocess.Popen[str]]:
        """Yield a running command; killed on leaving if it still runs."""
        output = subprocess.PIPE
        with subprocess.Popen(
            [COMMAND, *arguments], env=self.environment, stdout=output, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    try:
                        process.wait(60)
                    except subprocess.TimeoutExpired:
                        process.kill()

    def artifact(self, name: str, stage: str) -> Path:
        """Return the folder of a stage's artifact."""
        runs = self.folder / "home" / "runs" / "default" / name
        (manifest,) = (path for path in runs.glob("*/*/result.json") if json.loads(path.read_text())["stage"] == stage)
        return manifest.parent

    def result(self, name: str, stage: str) -> dict[str, Any]:
        """Return a stage's manifest."""
        return json.loads((self.artifact(name, stage) / "result.json").read_text())


def rows(dsn: str, query: str, *parameters: Any) -> list[dict[str, Any]]:
    """Return all rows of a query."""
    with psycopg.connect(dsn) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), parameters).fetchall()


def wait_for(what: str, holds: Callable[[], bool], *, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something holds; fail if a process that should bring it about ends first."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if process and process.poll() is not None:
            assert process.stdout is not None
            raise AssertionError(f"the process ended before {what}:\n{process.stdout.read()}")
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {PATIENCE:.0f} s")
        time.sleep(0.1)
