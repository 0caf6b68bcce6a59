"""The checks that Zensical does not have: links to files, requests to other hosts, and the navigation."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hack.site.pages import Page, css_loads, parse
from hack.site.stage import SOURCE

_POLICY = "default-src 'self'"


def find_problems(site: Path) -> list[str]:
    """Return what is wrong with the built pages and stylesheets, a sentence each.

    Args:
        site: The folder that Zensical wrote.
    """
    pages = {path.relative_to(site).as_posix(): parse(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    problems = [problem for name, page in pages.items() for problem in _of_page(name, page, pages, files)]
    for path in sorted(site.rglob("*.css")):
        name = path.relative_to(site).as_posix()
        problems += [f"{name}: loads {url}" for url in css_loads(path.read_text("utf-8")) if _is_elsewhere(url)]
    return problems


def find_navigation_problems(navigation: Iterable[Any], docs: Iterable[str]) -> list[str]:
    """Return the pages that the navigation lacks, those that it names twice, and those that are not there.

    Args:
        navigation: ``nav`` of the configuration.
        docs: The paths of all pages below docs/.
    """
    named = list(_pages_of(navigation))
    docs = set(docs)
    problems = [f"{page}: is not in the navigation: add it to nav in zensical.toml" for page in sorted(docs - {*named})]
    problems += [f"nav names {page}, which is not there" for page in named if page not in docs]
    return problems + [f"nav names {page} twice" for page in sorted({page for page in named if named.count(page) > 1})]


def _pages_of(navigation: Iterable[Any]) -> Iterator[str]:
    for entry in navigation:
        values = entry.values() if isinstance(entry, Mapping) else [entry]
        for value in values:
            if isinstance(value, str):
                yield value
            else:
                yield from _pages_of(value)


def _of_page(name: str, page: Page, pages: Mapping[str, Page], files: set[str]) -> Iterator[str]:
    for url in page.loads:
        if _is_elsewhere(url):
            yield f"{name}: loads {url}"
        elif problem := _find_fault(name, url, pages, files):
            yield problem
    for url in page.links:
        if not urlsplit(url).scheme and (problem := _find_fault(name, url, pages, files)):
            yield problem
    if not page.policy.startswith(_POLICY):
        yield f"{name}: has no Content-Security-Policy that begins with {_POLICY}"
    if not name.startswith(f"{SOURCE}/"):
        yield from (f"{name}: Markdown was not rendered: {text[:80]!r}" for text in page.raw)


def _is_elsewhere(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def _find_fault(name: str, url: str, pages: Mapping[str, Page], files: set[str]) -> str:
    """Return why a link of a page is broken; empty where it is not."""
    parts = urlsplit(url)
    if parts.scheme == "data":
        return ""
    # the page for addresses that are not there is served at any depth, so its links begin at the root
    base = "" if parts.path.startswith("/") else posixpath.dirname(name)
    path = posixpath.normpath(posixpath.join(base, unquote(parts.path).lstrip("/"))) if parts.path else name
    if path not in files:
        path = posixpath.normpath(posixpath.join(path, "index.html"))
    if path not in files:
        return f"{name}: links to {url}, which is not there"
    anchor = unquote(parts.fragment)
    if anchor and path in pages and anchor not in pages[path].anchors:
        return f"{name}: links to {url}, and {path} has no such heading"
    return ""
