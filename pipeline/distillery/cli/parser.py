"""The grammar of ``distillery``: commands, options and help."""

from __future__ import annotations

import argparse
from pathlib import Path
from textwrap import fill

from distillery import __version__

_DESCRIPTION = """\
LLM agents that learn from their failures: play, extract hints, teach with
hints, train a student without them, judge it, serve it, and repeat. A run is
described by a DistillationRun document, the same as on Kubernetes.
"""

_EPILOG = """\
examples:
  distillery init house.yaml                 write a run file to start from
  distillery validate house.yaml             check a document; starts nothing
  distillery run house.yaml                  run it; again: resume it
  distillery list                            all runs with their verdicts
  distillery status house --watch            how far it is, until it ends
  distillery logs house r1-train-distilled   the log of a stage
  distillery report house --open             what came out
  distillery compare house house-2           settings and success of two runs
  distillery serve house                     the promoted student at an endpoint
  distillery retry house                     resume it without its file
  distillery delete house                    delete it and all it has

on a cluster:
  distillery logs alfworld-14b --follow      the log of the stage that runs
  distillery retry alfworld-14b              start failed stages again
  distillery promote alfworld-14b --round 2  serve the student of round 2
  distillery rollback alfworld-14b           serve what was served before
  distillery abort alfworld-14b              end a canary
  distillery pause alfworld-14b --stages     let stages finish, start none

exit codes:
  0 done   1 the run failed   2 wrong usage   75 the run is already running
  78 fix the configuration   130 interrupted

environment:
  DISTILLERY_HOME          the folder of runs
  DISTILLERY_DATABASE_URL  a Postgres with pgvector instead of the embedded one
  DISTILLERY_SECRETS       a folder with NAME/KEY files
  ALFWORLD_DATA            the real ALFWorld games
"""

_RUN = "NAME or NAMESPACE/NAME"


_EXAMPLES = {
    "init": "distillery init shop.yaml --environment webshop --agent react",
    "run": "distillery run house.yaml --set spec.rounds.maxRounds=2",
    "retry": "distillery retry house",
    "delete": "distillery delete house --yes",
    "validate": "distillery validate house.yaml --set spec.training.learningRate=2e-4",
    "list": "distillery list --json | jq -r '.[] | select(.phase == \"Failed\") | .run'",
    "status": "distillery status house --watch",
    "logs": "distillery logs house vllm --follow --tail 20",
    "compare": "distillery compare house house-2",
    "report": "distillery report house --open",
    "hints": "distillery hints house --limit 10",
    "serve": "distillery serve house --round 1 --port 8001",
    "promote": "distillery promote alfworld-14b --round 2",
    "rollback": "distillery rollback alfworld-14b",
    "abort": "distillery abort alfworld-14b",
    "pause": "distillery pause alfworld-14b --stages",
    "resume": "distillery resume alfworld-14b",
}


def _change(text: str) -> str:
    path, equals, _ = text.partition("=")
    if not (path and equals):
        raise argparse.ArgumentTypeError(f"{text}: write PATH=VALUE, such as spec.rounds.maxRounds=2")
    return text


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: write a whole number of at least 0")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text}: write a number up to 65535; 0 takes a free port")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser("distillery", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw)
    top.add_argument("--version", action="version", version=f"distillery {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, description: str = "") -> argparse.ArgumentParser:
        example = _EXAMPLES.get(name, "")
        return commands.add_parser(
            name,
            help=help,
            description=fill(f"{help[0].upper()}{help[1:]}. {description}".strip(), 78),
            epilog=f"example:\n  {example}" if example else None,
            formatter_class=raw,
        )

    init = command(
        "init",
        "write a run file to start from",
        "A short file with comments, for one machine or a cluster. The run is named after it. An existing file is "
        "never overwritten.",
    )
    init.add_argument("file", type=Path, help="such as house.yaml; .yaml is added where it is missing")
    init.add_argument("--environment", default="alfworld", metavar="NAME", help="an installed one (default: alfworld)")
    init.add_argument("--agent", default="react", metavar="NAME", help="an installed one (default: react)")
    init.add_argument(
        "--model", help="the student: a folder, or a model repository, pinned as MODEL@COMMIT or to its newest commit"
    )
    run = command(
        "run",
        "run a document to its end on this machine",
        "What is done stays done: after an interruption or a failure the same command resumes the run. Failed stages "
        "start again. Ends with the verdict of the gate.",
    )
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
        either.add_argument("run", help=_RUN)
        either.add_argument("--context", help="of the kubeconfig; looks on that cluster only")
    validate = command(
        "validate",
        "check a run file, start nothing",
        "Prints every problem with its field and a fix. Loads plug-ins, builds the environment, looks for models and "
        "secrets, and asks each endpoint for one chat completion.",
    )
    for either in (run, validate):
        either.add_argument("file", type=Path, help="a DistillationRun, YAML or JSON")
        either.add_argument(
            "--set",
            type=_change,
            action="append",
            default=[],
            metavar="PATH=VALUE",
            help="replace a field, as if the file had it; can be repeated",
        )
    validate.add_argument("--json", action="store_true", help="print the problems as JSON")
    extent = validate.add_mutually_exclusive_group()
    extent.add_argument("--offline", action="store_true", help="check the file only: the run is for another machine")
    extent.add_argument("--play", action="store_true", help="open one training task, and show prompt and first step")
    list_ = command("list", "list the runs of this machine", "With phase, verdict of the last round, and age.")
    list_.add_argument("--json", action="store_true", help="print all facts as JSON")
    status = command(
        "status",
        "show how far runs are",
        "Without a name: all runs. With one: its stages, those to come, and where its logs are.",
    )
    status.add_argument("run", nargs="?", help=_RUN)
    form = status.add_mutually_exclusive_group()
    form.add_argument("--watch", action="store_true", help="show RUN until it ends; 1 if it failed")
    form.add_argument("--json", action="store_true", help="print all facts as JSON")
    logs = command(
        "logs",
        "show the log of a stage",
        "Without STAGE: of the stage that failed, else of the one that started last. vllm is the model server. A run "
        "that this machine does not have is looked for on the cluster: kubectl prints the newest pods of STAGE, or of "
        "the stage that runs, with their model servers.",
    )
    logs.add_argument("run", help=_RUN)
    logs.add_argument("stage", nargs="?", help="such as r1-train-distilled; distillery status RUN lists them")
    logs.add_argument("-f", "--follow", action="store_true", help="continue with what is added, until Ctrl-C")
    logs.add_argument(
        "--tail", type=_count, metavar="LINES", help="only the last lines, on a cluster of each container"
    )
    logs.add_argument("--context", help="of the kubeconfig; looks on that cluster only")
    compare = command(
        "compare",
        "compare two runs",
        "Shows the settings in which they differ, and the success of their arms in the last round that ended.",
    )
    compare.add_argument("runs", nargs=2, metavar="RUN", help=_RUN)
    compare.add_argument("--json", action="store_true", help="print the comparison as JSON")
    report = command("report", "show what a run found out", "Prints the table; the page and the data lie in a folder.")
    report.add_argument("run", help=_RUN)
    report.add_argument("--open", action="store_true", help="open the page in a browser")
    form = report.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the data instead of the table")
    form.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    hints = command("hints", "show a run's hint bank", "With where hints came from and how episodes with them went.")
    hints.add_argument("run", help=_RUN)
    form = hints.add_mutually_exclusive_group()
    form.add_argument("--limit", type=_count, default=30, help="hints shown, the most used first (default: 30)")
    form.add_argument("--json", action="store_true", help="print all hints as JSON")
    serve = command(
        "serve",
        "serve a run's promoted student",
        "An OpenAI-compatible endpoint on 127.0.0.1; the model is called as the run. Ctrl-C ends it.",
    )
    serve.add_argument("run", help=_RUN)
    serve.add_argument("--round", type=_count, help="whose student, whatever the gate said of it; 0 is the base model")
    serve.add_argument("--port", type=_port, default=8000, help="on 127.0.0.1 (default: 8000); 0 takes a free one")
    promote = command(
        "promote",
        "serve a student on a cluster",
        "Sets an annotation by kubectl and prints the operator's answer; the choice holds until "
        "spec.serving.pinnedRound changes. Without --round: the student promoted last, whichever that will be. A round "
        "that is named ends a canary.",
    )
    promote.add_argument("run", help=_RUN)
    promote.add_argument(
        "--round", type=_count, help="whose student, whatever the gate said of it; 0 is the base model"
    )
    rollback = command(
        "rollback",
        "serve the previous student on a cluster",
        "Sets an annotation by kubectl and prints the operator's answer; the choice holds until "
        "spec.serving.pinnedRound changes. Without a previous student: the base model. Ends a canary.",
    )
    rollback.add_argument("run", help=_RUN)
    abort = command(
        "abort",
        "end a canary on a cluster",
        "Sets an annotation by kubectl and prints the operator's answer. All traffic goes to the stable student. The "
        "aborted one is served only when you name its round.",
    )
    abort.add_argument("run", help=_RUN)
    pause = command(
        "pause",
        "keep a canary at its step",
        "Sets an annotation by kubectl and prints the operator's answer. Whatever the analysis says, the canary keeps "
        "its share, until spec.serving.canary.paused changes or you resume it.",
    )
    resume = command(
        "resume",
        "continue a canary that was paused",
        "Sets an annotation by kubectl and prints the operator's answer.",
    )
    for either in (pause, resume):
        either.add_argument("run", help=_RUN)
        either.add_argument(
            "--stages", action="store_true", help="of the run instead: running stages finish, none starts"
        )
    for requesting in (promote, rollback, abort, pause, resume):
        requesting.add_argument("--context", help="of the kubeconfig (default: its current one)")
    return top
