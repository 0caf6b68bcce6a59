"""The version, written wherever the repository names its own.

    python3 hack/set_version.py 0.2.0            change every mention
    python3 hack/set_version.py --next 0.3.0     the same for the version after a release, which has no notes yet
    python3 hack/set_version.py --check 0.2.0    fail if a mention differs from this version
    python3 hack/set_version.py --check          fail if the mentions differ from one another

A version is as Python, Helm and image tags all accept it: 0.2.0, or 0.2.0-alpha.1, -beta.1, -rc.1. Needs no more than
Python's standard library.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_VERSION = r"[0-9]+\.[0-9]+\.[0-9]+(?:-(?:alpha|beta|rc)\.[0-9]+)?"

ENVIRONMENTS = ("alfworld", "webshop")
"""The environments that are distributions of their own; extras of the pipeline name them with its version."""

PACKAGES = tuple(
    f"{folder}/__init__.py"
    for folder in (
        "pipeline/distillery",
        "operator/distillery_operator",
        "gateway/distillery_gateway",
        *(f"environments/{name}/distillery_{name}" for name in ENVIRONMENTS),
    )
)
"""The modules whose ``__version__`` setuptools reads; the first is the one that all others have to agree with."""

DISTRIBUTIONS = tuple(f"{folder}/pyproject.toml" for folder in ("operator", "gateway", "environments/*"))
"""They require the pipeline of their own version."""

CHART = "charts/distillery/Chart.yaml"
CITATION = "CITATION.cff"
DEFINITIONS = ("crds/distillery.dev_*.yaml", "charts/distillery/files/crd.yaml")
KUSTOMIZE = "charts/kustomize/base/distillery.yaml"
CHANGELOG = "CHANGELOG.md"

PROSE = ("README.md", "docs/**/*.md", "charts/**/*.md", "images/*/Dockerfile", "hack/release_images.py")
"""Files that mention the version in commands and names of images."""


@dataclass(frozen=True, slots=True)
class Form:
    """One way to mention the version.

    Attributes:
        files: globs of the files that it is looked for in.
        pattern: a regular expression with the group ``version``.
        required: whether each of the files has to hold it.
    """

    files: tuple[str, ...]
    pattern: re.Pattern[str]
    required: bool = False


def _form(files: tuple[str, ...], before: str, after: str = "", *, required: bool = False) -> Form:
    return Form(files, re.compile(f"{before}(?P<version>{_VERSION}){after}", re.MULTILINE), required)


FORMS = (
    _form(PACKAGES, '^__version__ = "', '"$', required=True),
    _form(DISTRIBUTIONS, '^    "distillery-agents==', '",$', required=True),
    *(
        _form(("pipeline/pyproject.toml",), rf'^{name} = \["distillery-{name}==', r'"\]$', required=True)
        for name in ENVIRONMENTS
    ),
    _form((CHART,), "^version: ", "$", required=True),
    _form((CHART,), "^appVersion: ", "$", required=True),
    _form((CITATION,), "^version: ", "$", required=True),
    _form(DEFINITIONS, "^    app.kubernetes.io/version: ", "$", required=True),
    _form((KUSTOMIZE,), '^ +app.kubernetes.io/version: "', '"$'),
    _form((*PROSE, CHART, KUSTOMIZE), r"distillery/(?:operator|gateway|pipeline|server-cpu|\{[a-z,-]+\}):"),
    _form(PROSE, r"release_images\.py \S+ "),
    _form(PROSE, r"\b[Aa] tag\s+(?:such as\s+)?`v"),
)


_PRERELEASE = re.compile(r'(?<=^  artifacthub.io/prerelease: ")(?:true|false)(?="$)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mention:
    """The version in a file.

    Attributes:
        path: of the file, relative to the repository.
        line: counted from 1.
        start: of the version in the file's text.
        version: as it is written.
    """

    path: Path
    line: int
    start: int
    version: str

    def __str__(self) -> str:
        """Return the mention as a line of an error message."""
        return f"{self.path}:{self.line}: {self.version}"


def find_mentions(root: Path) -> Iterator[Mention]:
    """Yield every mention. Raises SystemExit if a file lacks one that it has to hold."""
    for form in FORMS:
        for file in sorted({file for pattern in form.files for file in root.glob(pattern)}):
            text, path = file.read_text(encoding="utf-8"), file.relative_to(root)
            found = list(form.pattern.finditer(text))
            if form.required and len(found) != 1:
                sys.exit(f"{path} has {len(found)} lines that match {form.pattern.pattern}; it needs one")
            for match in found:
                start = match.start("version")
                yield Mention(path, text.count("\n", 0, start) + 1, start, match["version"])


def find_others(root: Path, version: str | None = None) -> list[Mention]:
    """Return the mentions of another version.

    Args:
        root: the repository.
        version: what they should mention; by default what the first package says.
    """
    mentions = list(find_mentions(root))
    expected = version or mentions[0].version
    return [mention for mention in mentions if mention.version != expected]


def set_version(root: Path, version: str) -> list[Path]:
    """Change every mention and return the files that changed."""
    changed: dict[Path, list[Mention]] = {}
    for mention in find_others(root, version):
        changed.setdefault(mention.path, []).append(mention)
    for path, mentions in changed.items():
        text = (root / path).read_text(encoding="utf-8")
        for mention in sorted(set(mentions), key=lambda mention: mention.start, reverse=True):
            end = mention.start + len(mention.version)
            text = text[: mention.start] + version + text[end:]
        if path == Path(CHART):
            text = _PRERELEASE.sub("true" if "-" in version else "false", text)
        (root / path).write_text(text, encoding="utf-8")
    return list(changed)


def has_release_notes(root: Path, version: str) -> bool:
    """Return whether the changelog has a section for a version."""
    return f"\n## [{version}]" in (root / CHANGELOG).read_text(encoding="utf-8")


def main() -> None:
    """Change or check the versions of this repository."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?", type=_version, metavar="VERSION", help="such as 0.2.0 or 0.2.0-rc.1")
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--next", action="store_true", help="VERSION is not released yet, and needs no release notes")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (default: this one)")
    options = parser.parse_args()
    if options.check:
        if others := find_others(options.root, options.version):
            sys.exit("\n".join(["these mention another version:", *map(str, others)]))
        return
    if options.version is None:
        parser.error("name the VERSION to write")
    if not (options.next or has_release_notes(options.root, options.version)):
        sys.exit(f"{CHANGELOG} has no section [{options.version}]: rename Unreleased, and start a new one above it")
    for path in set_version(options.root, options.version):
        print(f"changed {path}")


def _version(text: str) -> str:
    if not re.fullmatch(_VERSION, text):
        raise argparse.ArgumentTypeError(f"{text!r} is no version; write it as 0.2.0 or 0.2.0-rc.1, without a v")
    return text


if __name__ == "__main__":
    main()
