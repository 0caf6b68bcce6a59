"""The grammar of ``distillery``: commands, options and help."""

from __future__ import annotations

import argparse
from pathlib import Path

from distillery import __version__

_DESCRIPTION = """\
LLM agents that learn from their failures: play, extract hints, teach with hints, train a student without them,
judge it, serve it, and repeat. A run is described by a DistillationRun document, the same as on Kubernetes.
"""

_EPILOG = """\
examples:
  distillery validate examples/demo.yaml     check a document; nothing is started
  distillery run examples/demo.yaml          run it; the same command resumes it, and tries again what failed
  distillery status alfworld-micro --watch   how far it is, until it ends
  distillery report alfworld-micro --open    what came out
  distillery serve alfworld-micro            the promoted student at an OpenAI-compatible endpoint
  distillery retry alfworld-micro            resume it without its file; also on a cluster
  distillery delete alfworld-micro           delete it and all it has; its name is free again
  distillery promote alfworld-14b --round 2  on a cluster: serve the student of round 2
  distillery rollback alfworld-14b           on a cluster: serve what was served before
  distillery abort alfworld-14b              on a cluster: end a canary
  distillery pause alfworld-14b --stages     on a cluster: let stages finish, and start none

exit codes: 0 done; 1 the run failed; 2 wrong usage; 75 another process drives the run; 78 fix the configuration;
130 interrupted.

environment: DISTILLERY_HOME (where runs are kept), DISTILLERY_DATABASE (a Postgres with pgvector instead of the
embedded one), DISTILLERY_SECRETS (folder with NAME/KEY files), ALFWORLD_DATA (the real ALFWorld games).
"""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser("distillery", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw)
    top.add_argument("--version", action="version", version=f"distillery {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, description: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}. {description}")

    run = command(
        "run",
        "run a document to its end on this machine",
        "What is done stays done: after an interruption or a failure the same command resumes the run. Failed stages "
        "start again. Ends with the verdict of the gate.",
    )
    run.add_argument("file", type=Path, help="a DistillationRun, YAML or JSON")
    retry = command(
        "retry",
        "start the failed stages of a run again",
        "A run of this machine resumes as by distillery run, with its stored document. Any other run is looked for on "
        "the cluster and gets an annotation by kubectl.",
    )
    delete = command(
        "delete",
        "delete a run and all it has",
        "On this machine: episodes, hints, artifacts, logs. A run that this machine does not have is deleted on the "
        "cluster by kubectl. Asks first.",
    )
    delete.add_argument("--yes", action="store_true", help="do not ask")
    for either in (retry, delete):
        either.add_argument("run", help="NAME or NAMESPACE/NAME")
        either.add_argument("--context", help="of the kubeconfig; looks on that cluster only")
    validate = command(
        "validate",
        "check a run file, start nothing",
        "Prints every problem with its field and a fix. Loads plug-ins, builds the environment, looks for models and "
        "secrets, and asks each endpoint for one chat completion.",
    )
    validate.add_argument("file", type=Path, help="a DistillationRun, YAML or JSON")
    extent = validate.add_mutually_exclusive_group()
    extent.add_argument("--offline", action="store_true", help="check the file only: the run is for another machine")
    extent.add_argument("--play", action="store_true", help="open one training task, and show prompt and first step")
    status = command("status", "show how far runs are", "Without a name: all runs.")
    status.add_argument("run", nargs="?", help="NAME or NAMESPACE/NAME")
    status.add_argument("--watch", action="store_true", help="show RUN until it ends; 1 if it failed")
    report = command("report", "show what a run found out", "Prints the table; the page and the data lie in a folder.")
    report.add_argument("run", help="NAME or NAMESPACE/NAME")
    report.add_argument("--open", action="store_true", help="open the page in a browser")
    form = report.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the data instead of the table")
    form.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    hints = command("hints", "show a run's hint bank", "With where hints came from and how episodes with them went.")
    hints.add_argument("run", help="NAME or NAMESPACE/NAME")
    hints.add_argument("--limit", type=int, default=30, help="hints shown, the most used first (default: 30)")
    serve = command(
        "serve",
        "serve a run's promoted student",
        "An OpenAI-compatible endpoint on 127.0.0.1; the model is called as the run. Ctrl-C ends it.",
    )
    serve.add_argument("run", help="NAME or NAMESPACE/NAME")
    serve.add_argument("--round", type=int, help="whose student, whatever the gate said of it; 0 is the base model")
    serve.add_argument("--port", type=int, default=8000, help="on 127.0.0.1 (default: 8000)")
    promote = command(
        "promote",
        "have a student served on a cluster",
        "Sets an annotation by kubectl and prints the operator's answer; the choice holds until spec.promotion.round "
        "changes. Without --round: the student promoted last, whichever that will be. A round that is named ends a "
        "canary.",
    )
    promote.add_argument("run", help="NAME or NAMESPACE/NAME")
    promote.add_argument("--round", type=int, help="whose student, whatever the gate said of it; 0 is the base model")
    rollback = command(
        "rollback",
        "have served on a cluster what was served before",
        "Sets an annotation by kubectl and prints the operator's answer; the choice holds until spec.promotion.round "
        "changes. The base model where nothing was served before. Ends a canary.",
    )
    rollback.add_argument("run", help="NAME or NAMESPACE/NAME")
    abort = command(
        "abort",
        "end a canary on a cluster",
        "Sets an annotation by kubectl and prints the operator's answer. All traffic goes to the stable student. The "
        "aborted one is served only when you name its round.",
    )
    abort.add_argument("run", help="NAME or NAMESPACE/NAME")
    pause = command(
        "pause",
        "keep a canary at its step",
        "Sets an annotation by kubectl and prints the operator's answer. Whatever the analysis says, the canary keeps "
        "its share, until spec.promotion.canary.paused changes or you resume it.",
    )
    resume = command(
        "resume",
        "continue a canary that was paused",
        "Sets an annotation by kubectl and prints the operator's answer.",
    )
    for either in (pause, resume):
        either.add_argument("run", help="NAME or NAMESPACE/NAME")
        either.add_argument(
            "--stages", action="store_true", help="of the run instead: running stages finish, none starts"
        )
    for requesting in (promote, rollback, abort, pause, resume):
        requesting.add_argument("--context", help="of the kubeconfig (default: its current one)")
    return top
