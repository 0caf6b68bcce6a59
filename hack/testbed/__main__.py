"""The commands: ``python -m hack.testbed up`` and its fellows, from the root of the repository."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from pathlib import Path

from hack.testbed import node
from hack.testbed.errors import ClusterError
from hack.testbed.images import builder
from hack.testbed.machine import programs
from hack.testbed.places import Places

_EPILOG = """\
typical use:
  python -m hack.testbed up                         a Ready node: seconds, if its programs are built
  eval "$(python -m hack.testbed env)"              kubectl, helm and ctr in PATH, KUBECONFIG set
  python -m hack.testbed build Dockerfile . app:dev
  python -m hack.testbed load app:dev               now a pod may name it (imagePullPolicy: IfNotPresent or Never)
  python -m hack.testbed down

Everything lives below $DISTILLERY_CLUSTER (default /var/lib/distillery-cluster), logs in its folder logs.
See hack/testbed/README.md for what this node can't do.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hack.testbed",
        description="A real Kubernetes with one node, in a network namespace of this machine. Needs root and Go.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser(
        "up",
        help="bring the node up, from nothing or from whatever is left of it",
        description="Brings the node up and waits until it works. On a node that runs it changes nothing; components "
        "whose version or settings changed are restarted. The first time on a machine it builds all programs from "
        "source, which takes 40 minutes of one core.",
    )
    up.add_argument(
        "--images",
        action="store_true",
        help="also make and load the stand-ins for public base images (python:3.11-slim, pgvector/pgvector:pg17); "
        "minutes the first time",
    )
    commands.add_parser(
        "down",
        help="stop the node; objects and volumes are kept",
        description="Ends every process of the node and removes its mounts, cgroups, network namespace and interface. "
        "Objects and volumes are there again after the next up.",
    )
    commands.add_parser(
        "wipe",
        help="stop the node and delete its objects, volumes and logs",
        description="As down, and deletes the node's state. Built programs and images are caches and stay: the next "
        "up is an empty cluster within seconds.",
    )
    build = commands.add_parser(
        "build",
        help="build an unmodified Dockerfile",
        description="Builds a Dockerfile as it is, with layers cached. Base images come from the stand-ins, by their "
        "public names. RUN steps see this machine's certificates and pip settings; the image keeps nothing of them.",
    )
    build.add_argument("dockerfile", type=Path, metavar="DOCKERFILE")
    build.add_argument("context", type=Path, metavar="CONTEXT", help="the folder that COPY steps see")
    build.add_argument("tag", metavar="TAG", help="short names are completed: app:1 is docker.io/library/app:1")
    build.add_argument("--target", default="", help="the stage to build (default: the last)")
    load = commands.add_parser(
        "load",
        help="bring a built image into the node",
        description="Brings an image into the node's containerd; only layers that it lacks move. Pods find it by the "
        "same name, unless they pull always, which is what the tag latest means by default.",
    )
    load.add_argument("tag", metavar="TAG")
    build_programs = commands.add_parser(
        "programs",
        help="build some of the node's programs, and print the folder with links to them",
        description="Builds programs without a node, for tests on another cluster. Needs Go and no root.",
    )
    names = [source.name for source in programs.SOURCES]
    build_programs.add_argument("names", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    commands.add_parser("kubeconfig", help="print the path of the administrator's kubeconfig")
    commands.add_parser("env", help="print the lines that point a shell at the node, for eval")
    return parser


def main() -> int:
    """Run a command; 1 if it failed, with the reason on standard error."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    places = Places.from_environment()
    try:
        match arguments.command:
            case "up":
                node.up(places, bases=arguments.images)
            case "down":
                node.down(places)
            case "wipe":
                node.wipe(places)
            case "build":
                source = builder.Source(arguments.dockerfile, arguments.context, arguments.target)
                print(builder.build(places, source, arguments.tag))
            case "load":
                builder.load(places, arguments.tag)
            case "programs":
                programs.build(places, [s for s in programs.SOURCES if s.name in arguments.names])
                print(places.bin)
            case "kubeconfig":
                print(places.kubeconfig)
            case _:
                for name, value in node.environment(places).items():
                    print(f"export {name}={shlex.quote(value)}")
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
