"""The programs of the node, built from pinned Go modules.

Nothing here needs a registry of images or a release page: the Go module proxy is enough, and the checksum database
vouches for what it serves. Every source has a folder of its own, named after all that decides what comes out of the
compiler; a folder that is there is complete (it is renamed into place), so a second call only looks at names, and a
new version builds that one source again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hack.testbed.errors import ClusterError
from hack.testbed.places import Places

GO = "1.26.0"
KUBERNETES = "1.37.2"
STAGING = "0.37.2"  # what the libraries inside Kubernetes' repository are published as

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A Go module and the programs that are built from it."""

    name: str
    module: str
    version: str
    programs: dict[str, str]
    """The name of each program and the package that it is built from."""
    tags: str = ""
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """Go variables that are set when it is linked."""
    staging: str = ""
    """The version for modules that the source replaces by folders which a module download doesn't hold."""

    @property
    def key(self) -> str:
        """Changes when, and only when, the programs have to be built again."""
        content = json.dumps([asdict(self), GO], sort_keys=True)
        return f"{self.name}-{self.version}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def _kubernetes(name: str, *programs: str) -> Source:
    major, minor, _ = KUBERNETES.split(".")
    # without these the server calls itself v0.0.0, and the version checks of Helm and of the kubelet refuse it
    version = {
        "gitVersion": f"v{KUBERNETES}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "0" * 40,
    }
    return Source(
        name=name,
        module="k8s.io/kubernetes",
        version=f"v{KUBERNETES}",
        programs={program: f"k8s.io/kubernetes/cmd/{program}" for program in programs},
        variables={f"k8s.io/component-base/version.{key}": value for key, value in version.items()},
        staging=f"v{STAGING}",
    )


def _source(name: str, module: str, version: str, *packages: str, tags: str = "", variable: str = "") -> Source:
    """A source whose programs are named after their packages; the module itself is one if no package is given.

    Args:
        name: What it is called here.
        module: The Go module.
        version: Its version.
        packages: Of the programs, below the module.
        tags: For the compiler.
        variable: The Go variable that holds the version, where users ask for it.
    """
    programs = {package.rsplit("/", 1)[-1]: f"{module}/{package}" for package in packages} or {name: module}
    variables = {variable: version} if variable else {}
    return Source(name=name, module=module, version=version, programs=programs, tags=tags, variables=variables)


API_SERVER = (
    _source("etcd", "go.etcd.io/etcd/server/v3", "v3.7.3"),
    _kubernetes("kube-apiserver", "kube-apiserver"),
)
"""What an API server without a node takes."""

SOURCES = (
    *API_SERVER,
    _kubernetes("kubernetes", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"),
    _source(
        "containerd",
        "github.com/containerd/containerd/v2",
        "v2.4.2",
        "cmd/containerd",
        "cmd/containerd-shim-runc-v2",
        "cmd/ctr",
        tags="no_btrfs no_devmapper",  # they need C libraries, and the node has no use for them
    ),
    _source(
        "cni",
        "github.com/containernetworking/plugins",
        "v1.9.1",
        "plugins/main/bridge",
        "plugins/main/loopback",
        "plugins/ipam/host-local",
        "plugins/meta/portmap",
    ),
    _source("coredns", "github.com/coredns/coredns", "v1.15.0"),
    _source("registry", "github.com/distribution/distribution/v3", "v3.1.2", "cmd/registry"),
    _source("helm", "helm.sh/helm/v4", "v4.3.1", "cmd/helm", variable="helm.sh/helm/v4/internal/version.version"),
    _source("versitygw", "github.com/versity/versitygw", "v1.8.0", "cmd/versitygw"),
    _source("kube-score", "github.com/zegl/kube-score", "v1.20.0", "cmd/kube-score"),
    _source(
        "prometheus",
        "github.com/prometheus/prometheus",
        "v0.316.0",
        "cmd/prometheus",
        "cmd/promtool",
        tags="remove_all_sd",  # targets are named: the clouds' libraries would be most of what is compiled
    ),
)


KUBECONFORM = _source("kubeconform", "github.com/yannh/kubeconform", "v0.8.0", "cmd/kubeconform")
"""Checks manifests against schemas. Built for the tests that need it, and no part of the node."""

KWOK = _source("kwok", "sigs.k8s.io/kwok", "v0.8.0", "cmd/kwok")
"""Nodes and pods that only say that they run. Built likewise."""


def missing(places: Places) -> list[str]:
    """Return the names and versions of the sources whose programs are not built."""
    return [f"{source.name} {source.version}" for source in SOURCES if not (places.programs / source.key).is_dir()]


def build(places: Places, sources: Sequence[Source] = SOURCES) -> None:
    """Build what is missing and point the links in ``places.bin`` at it.

    Forty minutes of one core on a new machine, two where Go's own cache is warm, milliseconds when nothing is missing.

    Args:
        places: Where the node lives.
        sources: What is wanted of the table above.

    Raises:
        ClusterError: A program can't be built; the message ends with what the compiler said.
    """
    places.programs.mkdir(parents=True, exist_ok=True)
    places.bin.mkdir(exist_ok=True)
    for source in sources:
        folder = places.programs / source.key
        if not folder.is_dir():
            _build(source, folder)
        for name in source.programs:
            _link(places.bin / name, folder / name)


def _build(source: Source, folder: Path) -> None:
    _log.info("building %s %s: %s", source.name, source.version, ", ".join(source.programs))
    started = time.monotonic()
    work = folder.with_name(f".{folder.name}")
    shutil.rmtree(work, ignore_errors=True)
    (work / "module").mkdir(parents=True)
    (work / "module" / "go.mod").write_text(_go_mod(source, work / "module"))
    flags = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in sorted(source.variables.items()))])
    for name, package in source.programs.items():
        # -mod=mod resolves the packages that are built, and no tests of theirs as `go mod tidy` would
        command = ["build", "-mod=mod", "-trimpath", "-tags", source.tags, "-ldflags", flags, "-o", str(work / name)]
        go([*command, package], work / "module")
    shutil.rmtree(work / "module")
    for old in folder.parent.glob(f"{source.name}-*"):
        shutil.rmtree(old)
    work.rename(folder)
    _log.info("built %s in %.0f s", source.name, time.monotonic() - started)


def _go_mod(source: Source, cwd: Path) -> str:
    lines = [f"module distillery.dev/cluster/{source.name}", f"go {GO}", f"require {source.module} {source.version}"]
    if source.staging:
        found = json.loads(go(["mod", "download", "-json", f"{source.module}@{source.version}"], cwd))
        staged = re.findall(r"^\s*(\S+) => \./staging/", Path(found["GoMod"]).read_text(), flags=re.MULTILINE)
        lines += [f"replace {module} => {module} {source.staging}" for module in staged]
    return "\n".join(lines) + "\n"


def go(arguments: list[str], cwd: Path) -> str:
    """Run a command of Go and return what it prints. Raises ClusterError with what it said if it fails."""
    environment = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(["go", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"go {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    new = link.with_name(f".{link.name}")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)
