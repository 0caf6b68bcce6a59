"""Promotions by hand, of runs on a cluster: the resource is changed by kubectl, and the operator does the rest."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from distillery.api import GROUP

_KIND = f"distillationruns.{GROUP}"


def promote(run: str, number: int | None, *, context: str | None = None) -> str:
    """Have the student of a round served, with 0 the base model, or with None the student promoted last.

    Returns:
        A sentence for the user.

    Raises:
        RuntimeError: kubectl is not there, or says no.
    """
    patch = json.dumps({"spec": {"promotion": {"round": number}}})
    _kubectl(run, "patch", "--type=merge", f"--patch={patch}", context=context)
    what = {None: "the student promoted last", 0: "the base model"}.get(number, f"the student of round {number}")
    return f"{what} is to be served; kubectl describe drun {run.rpartition('/')[2]} tells when it is"


def rollback(run: str, *, context: str | None = None) -> str:
    """Have served again what was served before.

    Returns:
        A sentence for the user.

    Raises:
        RuntimeError: nothing was; or kubectl is not there, or says no.
    """
    found: Mapping[str, Any] = json.loads(_kubectl(run, "get", "--output=json", context=context))
    history = found.get("status", {}).get("serving", {}).get("history", [])
    if not history:
        raise RuntimeError(f"nothing of run {run} is served")
    return promote(run, history[1]["round"] if len(history) > 1 else 0, context=context)


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
        raise RuntimeError(done.stderr.strip() or f"kubectl ended with code {done.returncode}")
    return done.stdout
