"""The staged sources of the site: docs/, and a page for each file of the repository that a page links to.

Links in docs/ are written for the repository, where ``../examples/demo.yaml`` is a file. The site has no such file, and
there is no public repository to lead to. So each linked file becomes a page below ``source/``: a Markdown file as text,
every other file as a listing.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from hack.site.links import replace_links
from hack.site.lists import indent_lists

DOCS = "docs"
SOURCE = "source"
_LISTED_BYTES = 200_000
_BADGE = re.compile(r"^\[?!\[[^\]]*\]\(https://img\.shields\.io/[^)]*\)(?:\]\([^)]*\))?\n", re.MULTILINE)
"""A line with a badge, which would be a request to another host."""

_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "sh", ".toml": "toml", ".json": "json"}


class BrokenLink(Exception):
    """A link to a file that the repository does not have."""


def stage(root: Path, target: Path) -> list[str]:
    """Write the sources of the site into ``target``; return the staged files of the repository, sorted.

    Raises:
        BrokenLink: A page links to a file that is not there. The message names the page, the line and the target.
    """
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(root / DOCS, target)
    waiting = sorted(path.relative_to(root).as_posix() for path in (root / DOCS).rglob("*.md"))
    staged: set[str] = set()
    while waiting:
        page = waiting.pop()
        text, linked = _translate(root, page)
        written = target / site_path(root, page)
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(text, encoding="utf-8")
        added = [path for path in linked if not path.startswith(f"{DOCS}/") and path not in staged]
        staged.update(added)
        waiting.extend(added)
    return sorted(staged)


def site_path(root: Path, path: str) -> str:
    """Return the path below the staged folder of a file or folder of the repository.

    Args:
        root: The repository.
        path: The file's path in the repository.
    """
    if path.startswith(f"{DOCS}/"):
        return path.removeprefix(f"{DOCS}/")
    visible = "/".join(part.removeprefix(".") for part in path.split("/"))  # Zensical skips hidden files
    if (root / path).is_dir():
        return posixpath.join(SOURCE, visible, "index.md")
    return posixpath.join(SOURCE, visible if path.endswith(".md") else f"{visible}.md")


def _translate(root: Path, page: str) -> tuple[str, list[str]]:
    """Return the page's Markdown with links of the site, and the paths in the repository that it links to."""
    linked: list[str] = []
    here = posixpath.dirname(site_path(root, page))
    base = page if (root / page).is_dir() else posixpath.dirname(page)

    def replace(line: int, target: str) -> str:
        path, hash_sign, anchor = target.partition("#")
        wanted = posixpath.normpath(posixpath.join(base, path))
        if (root / wanted).is_dir() and (root / wanted / "README.md").is_file():
            wanted = posixpath.join(wanted, "README.md")
        if wanted.startswith("..") or not (root / wanted).exists():
            raise BrokenLink(f"{page}:{line}: {target} is not in the repository")
        linked.append(wanted)
        return posixpath.relpath(site_path(root, wanted), here or ".") + hash_sign + anchor

    if (root / page).is_dir():
        return replace_links(_folder_page(root, page), replace), linked
    if page.endswith(".md"):
        text = _BADGE.sub("", (root / page).read_text(encoding="utf-8"))
        text = indent_lists(replace_links(text, replace))
        return text if page.startswith(f"{DOCS}/") else "\n".join([*_front_matter(), text]), linked
    return _file_page(root, page), linked


def _folder_page(root: Path, folder: str) -> str:
    """Return a list of the folder's files. Large ones are named only: they are locks and weights, not for reading."""
    files = [path for path in sorted((root / folder).iterdir()) if path.is_file() and not path.name.startswith(".")]
    items = [
        f"- [`{path.name}`]({path.name})" if path.stat().st_size <= _LISTED_BYTES else f"- `{path.name}`"
        for path in files
    ]
    return "\n".join([*_front_matter(), f"# `{folder}/`", "", *items, ""])


def _file_page(root: Path, path: str) -> str:
    size = (root / path).stat().st_size
    if size > _LISTED_BYTES:
        raise BrokenLink(f"{path} has {size} bytes: link to a smaller file, or to its folder")
    text = (root / path).read_text(encoding="utf-8").rstrip("\n")
    fence = "`" * max(3, 1 + max((len(run) for run in _backticks(text)), default=0))
    language = _LANGUAGES.get(PurePosixPath(path).suffix, "text")
    return "\n".join([*_front_matter(), f"# `{path}`", "", fence + language, text, fence, ""])


def _front_matter() -> list[str]:
    return ["---", "search:", "  exclude: true", "hide: [navigation, toc]", "---", ""]


def _backticks(text: str) -> Iterator[str]:
    run = ""
    for character in f"{text} ":
        if character == "`":
            run += character
        elif run:
            yield run
            run = ""
