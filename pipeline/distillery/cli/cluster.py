"""What is done by hand to runs on a cluster: kubectl changes the resource, and the operator does the rest."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from distillery.api import GROUP, RETRY_ANNOTATION
from distillery.api.problems import lookup

_KIND = f"distillationruns.{GROUP}"
_LOG_LINE = re.compile(r"[EWIF]\d{4} ")


def promote(run: str, number: int | None, *, context: str | None = None) -> str:
    """Have the student of a round served, with 0 the base model, or with None the student promoted last.

    Returns:
        A sentence for the user.

    Raises:
        RuntimeError: kubectl is not there, or says no.
    """
    trial = _trial(_patch(run, {"round": number}, context=context))
    if trial and number is None:
        return f"{_told(trial)}; --round {trial['round']} has it served to all at once"
    what = {None: "the student promoted last", 0: "the base model"}.get(number, f"the student of round {number}")
    ends = f"the canary of student {trial['student']} ends, and " if trial else ""
    return f"{ends}{what} is to be served; kubectl describe drun {_name(run)} tells when it is"


def rollback(run: str, *, context: str | None = None) -> str:
    """Have served again what was served before; where a newcomer is on trial, only what is served beside it.

    Returns:
        A sentence for the user.

    Raises:
        RuntimeError: nothing was; or kubectl is not there, or says no.
    """
    found: Mapping[str, Any] = json.loads(_kubectl(run, "get", "--output=json", context=context))
    history = found.get("status", {}).get("serving", {}).get("history", [])
    if not history:
        raise RuntimeError(f"nothing of run {run} is served")
    served: int = history[0]["round"]
    if _trial(found):
        return promote(run, served, context=context)
    # a newcomer that was taken back left an entry of the student that is served on
    before = next((entry["round"] for entry in history if entry["round"] != served), 0)
    return promote(run, before, context=context)


def pause(run: str, *, paused: bool, context: str | None = None) -> str:
    """Have a newcomer stay at its step of the canary, or go on.

    Returns:
        A sentence for the user.

    Raises:
        RuntimeError: the run has no canary; or kubectl is not there, or says no.
    """
    trial = _trial(_patch(run, {"canary": {"paused": paused}}, context=context))
    if trial is None:
        return f"no newcomer is on trial; the next one {'waits in its first step' if paused else 'does not wait'}"
    return f"{_told(trial)}, {'and stays there' if paused else 'and goes on from there'}"


def retry(run: str, *, context: str | None = None) -> str:
    """Have the failed stages of a run start again.

    Returns:
        A sentence for the user.

    Raises:
        RuntimeError: the run is complete; or kubectl is not there, or says no.
    """
    found = json.loads(_kubectl(run, "get", "--output=json", context=context))
    phase = lookup(found, "status.phase")
    if phase == "Complete":
        raise RuntimeError(f"run {run} is complete: no stage of it failed")
    value = datetime.now(UTC).isoformat(timespec="seconds")
    _kubectl(run, "annotate", "--overwrite", f"{RETRY_ANNOTATION}={value}", context=context)
    return f"the failed stages of run {run} start again; kubectl describe drun {_name(run)} shows how they do"


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
        """Delete the run; a sentence for the user. Raises RuntimeError."""
        _kubectl(self.run, "delete", context=self.context)
        return f"run {self.run} is deleted{self.stays}"


def deletion(run: str, *, context: str | None = None) -> Deletion:
    """What the deletion of a run takes and leaves. Raises RuntimeError: there is no such run, or no kubectl."""
    found = json.loads(_kubectl(run, "get", "--output=json", context=context))
    uri, secret = lookup(found, "spec.storage.uri"), lookup(found, "spec.database.dsnSecretRef")
    kept = list[str]()
    if uri:
        kept.append(f"its artifacts at {uri}")
    elif lookup(found, "spec.storage.retain"):
        kept.append("its volume claim with the artifacts (spec.storage.retain)")
    if secret:
        kept.append(f"its rows in the database of Secret {secret['name']}")
    stays = f"; what stays: {', '.join(kept)}" if kept else ""
    takes = ["what it serves"] if lookup(found, "status.serving") else []
    takes += [] if secret else ["its database"]
    takes += [] if kept and (uri or lookup(found, "spec.storage.retain")) else ["its artifacts"]
    where = f" of context {context}" if context else ""
    question = f"delete run {run} on the cluster{where} with {' and '.join(takes) or 'its Jobs'}{stays}"
    return Deletion(run, context, question, stays)


def _name(run: str) -> str:
    return run.rpartition("/")[2]


def _trial(run: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The newcomer that is on trial, if one is."""
    found = run.get("status", {}).get("serving", {}).get("canary", {})
    return found if found.get("outcome") in ("Starting", "Running", "Inconclusive") else None


def _told(trial: Mapping[str, Any]) -> str:
    share = "a copy of every request" if trial["shadow"] else f"{trial['weight']} % of the sessions"
    return f"student {trial['student']} is in step {trial['step']} of {trial['steps']}, with {share}"


def _patch(run: str, promotion: Mapping[str, Any], *, context: str | None) -> Mapping[str, Any]:
    """Change ``spec.promotion``; the run as it is then."""
    patch = json.dumps({"spec": {"promotion": promotion}})
    return json.loads(_kubectl(run, "patch", "--type=merge", f"--patch={patch}", "--output=json", context=context))


def _kubectl(run: str, verb: str, *arguments: str, context: str | None) -> str:
    namespace, _, name = run.rpartition("/")
    command = ["kubectl", verb, _KIND, name, *arguments]
    command += [f"--namespace={namespace}"] if namespace else []
    command += [f"--context={context}"] if context else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise RuntimeError("runs on a cluster are changed by kubectl, which is not installed here") from error
    if done.returncode:
        # its client logs every try before it says what is wrong
        lines = [line for line in done.stderr.strip().splitlines() if not _LOG_LINE.match(line)]
        raise RuntimeError("\n".join(lines) or f"kubectl ended with code {done.returncode}")
    return done.stdout
