"""``distillery init``: a commented run file to start from."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

from distillery.cli.errors import EXIT_CONFIGURATION, EXIT_FAILED, complain
from distillery.core import plugins
from distillery.core.api import RESERVED
from distillery.core.api.problems import suggest_name
from distillery.core.model_files import newest_commit
from distillery.environments.base import Environment

STUDENT, STUDENT_COMMIT = "Qwen/Qwen2.5-7B-Instruct", "a09a35458c702b33eeacc393d103063234e8bc28"
UNPINNED = "COMMIT"
"""The revision in a file whose author has to find it; `distillery validate` refuses it."""

_NAME_LENGTH = 40
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PLAIN = re.compile(r"[A-Za-z./][\w./-]*")


class InitError(Exception):
    """An argument of which no run file can be made; the message names it and the fix."""


@dataclass(frozen=True, slots=True)
class StudentPart:
    """A student as the file names it.

    Attributes:
        model: a model repository, or a folder as written in the file.
        revision: the commit of a repository, or :data:`UNPINNED`; None for a folder.
    """

    model: str
    revision: str | None


@dataclass(frozen=True, slots=True)
class EnvironmentPart:
    """The lines of a file that depend on the environment.

    Attributes:
        steps: the actions of an episode.
        tasks: the fields of ``environment.tasks``.
        options: a line with ``environment.options``; empty for an environment that has none.
        has_rules: hints are found without a language model.
    """

    steps: int
    tasks: str
    options: str
    has_rules: bool = True


ENVIRONMENTS = {
    "alfworld": EnvironmentPart(
        50, "train: 1200, evaluate: 134", "options: {games: generated}  # alfworld: the real games in $ALFWORLD_DATA"
    ),
    "webshop": EnvironmentPart(
        15, "train: 1200, evaluate: 100", "options: {catalog: generated}  # webshop: the real shop in $WEBSHOP_DATA"
    ),
    "openenv": EnvironmentPart(
        50,
        "train: 200, evaluate: 100, evaluateSplit: test",
        'options: {url: "http://127.0.0.1:8000"}  # of a server that speaks the OpenEnv protocol',
        has_rules=False,
    ),
}
"""The environments that come with Distillery."""


async def init(options: argparse.Namespace) -> int:
    """Write a run file, and print the next command."""
    given: Path = options.file
    file = (
        given if given.suffix in (".yaml", ".yml") else given.with_name(f"{given.name}.yaml") if given.name else given
    )
    try:
        name = derive_run_name(file)
        if file.exists():  # before anything is looked up; "x" below decides
            raise FileExistsError
        environment = _require_installed("environment", options.environment)
        agent = _require_installed("agent", options.agent)
        student = resolve_student(options.model, file.parent) if options.model else StudentPart(STUDENT, STUDENT_COMMIT)
        text = render_run_file(file, name, environment=environment, agent=agent, student=student)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as target:
            target.write(text)
    except InitError as error:
        return complain(str(error), EXIT_CONFIGURATION)
    except FileExistsError:
        return complain(f"{file} exists, and init overwrites no file: name another one, or delete it", EXIT_FAILED)
    print(f"{file}: run {name}, {environment} with {agent}, student {student.model}")
    if student.revision == UNPINNED:
        print(f"pin the student: in spec.models.student.revision, write the commit that this prints\n  {_ask(student)}")
    print(f"next: distillery validate {shlex.quote(str(file))}")
    return 0


def derive_run_name(file: Path) -> str:
    """Return the name of a run that a file's name stands for. Raises InitError: it stands for none."""
    stem = file.name.removesuffix(file.suffix)
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:_NAME_LENGTH].rstrip("-")
    if not name or not file.name.isprintable():
        raise InitError(f"{file}: the run is named after the file: write a name such as house.yaml")
    if name.endswith(RESERVED):
        raise InitError(f"{file}: the run is named after the file: choose a name that does not end in "
                        + " or ".join(RESERVED))  # fmt: skip
    return name


def _require_installed(kind: str, name: str) -> str:
    installed = plugins.list_installed(f"{kind}s")
    if name not in installed:
        raise InitError(f"--{kind} {name}: no {kind} of this name is installed; {suggest_name(name, installed)}")
    return name


def resolve_student(text: str, folder: Path) -> StudentPart:
    """Return the student that an argument names: a folder, a repository, or ``REPOSITORY@COMMIT``.

    Args:
        text: the argument.
        folder: the folder of the run file, from which the file's own paths start.

    Raises:
        InitError: there is no such folder, or the revision is no commit.
    """
    if text.startswith("/"):  # it may be a folder of an image
        return StudentPart(text, None)
    if Path(text).is_dir():
        relative = os.path.relpath(Path(text).resolve(), folder.resolve())
        return StudentPart(relative if relative.startswith("../") else f"./{relative}", None)
    if text.startswith("."):
        raise InitError(f"--model {text}: there is no such folder here; name one, or a model repository")
    model, at, revision = text.partition("@")
    if at and not _COMMIT.fullmatch(revision):
        raise InitError(f"--model {text}: write the commit's 40 hexadecimal digits after @; a branch or a tag can move")
    if not _REPOSITORY.fullmatch(model):
        raise InitError(f"--model {text}: there is no such folder, and a model repository is written as OWNER/NAME")
    if not at:
        revision = STUDENT_COMMIT if model == STUDENT else newest_commit(model) or UNPINNED
    return StudentPart(model, revision)


def render_run_file(file: Path, name: str, *, environment: str, agent: str, student: StudentPart) -> str:
    """Return the text of a run file."""
    part = ENVIRONMENTS.get(environment) or _inspect(environment)
    command = shlex.quote(file.name)
    options = f"\n    {part.options}" if part.options else ""
    agents = ", ".join(other for other in plugins.list_installed("agents") if other != agent)
    return f"""\
# Check this run with: distillery validate {command}
# Run it here with: distillery run {command}; or on a cluster with: kubectl apply -f {command}
# docs/reference/resource.md lists every field. A field that you omit has a default.
apiVersion: distillery.dev/v1alpha1
kind: DistillationRun
metadata: {{name: {_scalar(name)}}}
spec:
  environment:
    name: {_scalar(environment)}
    maxSteps: {part.steps}  # actions of an episode
    tasks: {{{part.tasks}}}  # to learn from, and held out to judge the student{options}
  agent: {{name: {_scalar(agent)}}}  # how a task becomes a prompt{f"; also {agents}" if agents else ""}
  models:
    student:
{_student_lines(student)}
{_extractor_lines(has_rules=part.has_rules)}
  hints: {{retriever: embedding, topK: 3}}  # three hints for a task, the most similar ones
  evaluation:
    arms: [baseline, rag, distilled]  # add sft and placebo: controls without hints, and with random ones
  rounds: {{maxRounds: 1}}  # each further round starts with the student promoted last

  # On a cluster: GPUs, an OpenAI-compatible endpoint for clients, a volume. On one machine these have no effect.
  # modelServer: {{resources: {{limits: {{nvidia.com/gpu: "1"}}}}}}
  # stages: {{train: {{resources: {{limits: {{nvidia.com/gpu: "1"}}}}}}}}
  # serving: {{replicas: 2}}
  # storage: {{volumeClaim: {{size: 50Gi}}}}
"""


def _student_lines(student: StudentPart) -> str:
    line = f"      model: {_scalar(student.model)}"
    if student.revision is None:
        return f"{line}  # a folder; a model repository needs a revision too"
    pin = f"      # a commit, for branches move; the newest: {_ask(student)}"
    return f"{line}\n{pin}\n      revision: {student.revision}"


def _ask(student: StudentPart) -> str:
    """Return the command that prints the newest commit of a model repository."""
    return shlex.join(["git", "ls-remote", f"https://huggingface.co/{student.model}", "HEAD"])


def _extractor_lines(*, has_rules: bool) -> str:
    mark = "    # " if has_rules else "    "
    use = "without it, rules find them" if has_rules else "any OpenAI-compatible endpoint does"
    return (
        f"{mark}extractor:  # a model that turns failures into hints; {use}\n"
        f"{mark}  endpoint:\n"
        f"{mark}    baseURL: https://api.openai.com/v1\n"
        f"{mark}    model: gpt-4o\n"
        f"{mark}    apiKeySecretRef: {{name: openai, key: token}}"
    )


def _inspect(environment: str) -> EnvironmentPart:
    """Return the lines of an environment that others wrote, from its class; one that fails is left to `validate`."""
    try:
        plugin = plugins.load("environments", environment)
    except (Exception, SystemExit):
        plugin = None
    own_split = getattr(plugin, "held_out_split", "")
    tasks = f"train: 200, evaluate: 100{'' if own_split else ', evaluateSplit: test'}"
    has_rules = inspect.getattr_static(plugin, "read", Environment.read) is not Environment.read
    return EnvironmentPart(50, tasks, "", has_rules=has_rules)


def _scalar(text: str) -> str:
    """Return a text as YAML, in quotes where YAML would read something else."""
    return text if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text else json.dumps(text)
