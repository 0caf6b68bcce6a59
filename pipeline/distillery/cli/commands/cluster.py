"""The commands for runs on a cluster: kubectl annotates the resource, and the operator does the rest."""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from distillery.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, build_describe_command, build_scope, complain
from distillery.core.api import CANARY_ANNOTATION, GROUP, RETRY_ANNOTATION, SERVE_ANNOTATION, STAGES_ANNOTATION
from distillery.core.api.problems import lookup
from distillery.core.api.requests import ABORT, LATEST, PAUSE, PREVIOUS, RESUME

_KIND = f"distillationruns.{GROUP}"
_POLLS, _POLL_SECONDS = 30, 0.5
_LOG_LINE = re.compile(r"[EWIF]\d{4} ")


class AnswerPending(Exception):
    """An interrupted wait for the operator's answer; the message names the request and the answer's place."""


async def request(options: argparse.Namespace) -> int:
    """Carry out promote, rollback, abort, pause or resume, and print the operator's answer."""
    from distillery.local.workspace import folder_of_key  # takes a second to import

    try:
        with _interrupt_at_once():
            print(_request_of(options))
    except AnswerPending as pending:
        return complain(str(pending), EXIT_INTERRUPTED)
    except RuntimeError as error:
        if not folder_of_key(options.run if "/" in options.run else f"default/{options.run}").is_dir():
            raise
        return complain(
            f"{error}\n{options.run} is a run of this machine, and {options.command} is for runs on a cluster; "
            f"distillery serve {options.run} serves its promoted student here",
            EXIT_FAILED,
        )
    return 0


@contextmanager
def _interrupt_at_once() -> Generator[None]:
    """Have the first Ctrl-C raise KeyboardInterrupt. asyncio's handler would wait for the next ``await``."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _request_of(options: argparse.Namespace) -> str:
    run, context = options.run, options.context
    match options.command:
        case "promote":
            return promote(run, options.round, context=context)
        case "rollback":
            return rollback(run, context=context)
        case "abort":
            return abort(run, context=context)
        case verb:
            return pause(run, paused=verb == "pause", stages=options.stages, context=context)


def promote(run: str, number: int | None, *, context: str | None = None) -> str:
    """Serve the student of a round, with 0 the base model, or with None the student promoted last.

    Returns:
        The operator's answer.

    Raises:
        RuntimeError: the operator refuses, or does not answer; or kubectl is not there, or says no.
        AnswerPending: Ctrl-C came after the request was set.
    """
    return _request(run, SERVE_ANNOTATION, LATEST if number is None else str(number), context=context)


def rollback(run: str, *, context: str | None = None) -> str:
    """Serve again what was served before; where a canary is on trial, end it. Like :func:`promote`."""
    return _request(run, SERVE_ANNOTATION, PREVIOUS, context=context)


def abort(run: str, *, context: str | None = None) -> str:
    """End a canary: the stable student gets all traffic. Like :func:`promote`."""
    return _request(run, CANARY_ANNOTATION, ABORT, context=context)


def pause(run: str, *, paused: bool, stages: bool = False, context: str | None = None) -> str:
    """Keep a canary at its step, or start no stage of the run; or resume either. Like :func:`promote`."""
    annotation = STAGES_ANNOTATION if stages else CANARY_ANNOTATION
    return _request(run, annotation, PAUSE if paused else RESUME, context=context)


def retry(run: str, *, context: str | None = None) -> str:
    """Have the failed stages of a run start again.

    Returns:
        A sentence for the user.

    Raises:
        RuntimeError: the run is complete; or kubectl is not there, or says no.
    """
    document = read_run(run, context=context)
    phase = lookup(document, "status.phase")
    if phase == "Complete":
        raise RuntimeError(f"run {run} is complete: no stage of it failed")
    _annotate(run, RETRY_ANNOTATION, _token(), context=context)
    return f"the failed stages of run {run} start again; {build_describe_command(run, context)} shows how they do"


@dataclass(frozen=True, slots=True)
class Deletion:
    """A run that is to be deleted.

    Attributes:
        run: ``NAME`` or ``NAMESPACE/NAME``.
        context: of the kubeconfig.
        question: for a person who has to confirm it.
        stays: what the deletion leaves.
    """

    run: str
    context: str | None
    question: str
    stays: str

    def carry_out(self) -> str:
        """Delete the run, and return a sentence for the user. Raises RuntimeError."""
        _kubectl(self.run, "delete", context=self.context)
        return f"run {self.run} is deleted{self.stays}"


def plan_deletion(run: str, *, context: str | None = None) -> Deletion:
    """Return what deleting a run removes and keeps. Raises RuntimeError: there is no such run, or no kubectl."""
    document = read_run(run, context=context)
    uri, secret = lookup(document, "spec.storage.uri"), lookup(document, "spec.database.dsnSecretRef")
    kept = list[str]()
    if uri:
        kept.append(f"its artifacts at {uri}")
    elif lookup(document, "spec.storage.retain"):
        kept.append("its volume claim with the artifacts (spec.storage.retain)")
    if secret:
        kept.append(f"its rows in the database of Secret {secret['name']}")
    stays = f"; what stays: {', '.join(kept)}" if kept else ""
    takes = ["what it serves"] if lookup(document, "status.serving") else []
    takes += [] if secret else ["its database"]
    takes += [] if kept and (uri or lookup(document, "spec.storage.retain")) else ["its artifacts"]
    where = f" of context {context}" if context else ""
    question = f"delete run {run} on the cluster{where} with {' and '.join(takes) or 'its Jobs'}{stays}"
    return Deletion(run, context, question, stays)


def read_run(run: str, *, context: str | None) -> dict[str, Any]:
    """Return a run as the cluster has it. Raises RuntimeError: there is no such run, or no kubectl."""
    return json.loads(_kubectl(run, "get", "--output=json", context=context))


def _request(run: str, annotation: str, word: str, *, context: str | None) -> str:
    """Annotate a run, and wait for the operator's answer. Raises RuntimeError and AnswerPending."""
    value = f"{word}@{_token()}"
    _annotate(run, annotation, value, context=context)
    describe = build_describe_command(run, context)
    try:
        return _answer(run, annotation, value, context=context)
    except TimeoutError as error:
        raise RuntimeError(
            f"the operator did not answer {annotation}={value} within {_POLLS * _POLL_SECONDS:.0f} s. It answers once "
            f"it runs and the spec is valid: {describe} shows the condition RequestAccepted"
        ) from error
    except KeyboardInterrupt as error:
        raise AnswerPending(
            f"interrupted; the request {annotation}={value} is set on run {run}, and {describe} shows the operator's "
            "answer"
        ) from error


def _answer(run: str, annotation: str, value: str, *, context: str | None) -> str:
    """Wait for the operator's answer. Raises TimeoutError, and RuntimeError if the operator refuses."""
    for _ in range(_POLLS):
        answers = lookup(read_run(run, context=context), "status.requests") or []
        if reply := next((one for one in answers if (one["name"], one["value"]) == (annotation, value)), None):
            if reply["phase"] == "Rejected":
                raise RuntimeError(reply["message"])
            return str(reply["message"])
        time.sleep(_POLL_SECONDS)
    raise TimeoutError


def _token() -> str:
    """Return what makes a request a new one."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _annotate(run: str, annotation: str, value: str, *, context: str | None) -> None:
    """Set an annotation under a field manager of its own: Flux removes what the manager kubectl sets."""
    set_it = f"{annotation}={value}"
    _kubectl(run, "annotate", "--overwrite", "--field-manager=distillery-cli", set_it, context=context)


def _kubectl(run: str, verb: str, *arguments: str, context: str | None) -> str:
    _, _, name = run.rpartition("/")
    return run_kubectl(verb, _KIND, name, *arguments, *build_scope(run, context))


def run_kubectl(*arguments: str) -> str:
    """Return the output of kubectl. Raises RuntimeError: it is not installed, or reports an error."""
    try:
        done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise RuntimeError("runs on a cluster need kubectl, which is not installed here") from error
    if done.returncode == -signal.SIGINT:  # Ctrl-C is for the whole process group
        raise KeyboardInterrupt
    if done.returncode:
        # its client logs every try before it says what is wrong
        lines = [line for line in done.stderr.strip().splitlines() if not _LOG_LINE.match(line)]
        raise RuntimeError("\n".join(lines) or f"kubectl ended with code {done.returncode}")
    return done.stdout
