"""The resources that a browser would load from a built page, and the targets of its links. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_LOADS = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src",),
    "input": ("src",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src",),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
_LINK_RELATIONS = ("alternate", "author", "canonical", "license", "next", "prev")
"""Relations of ``link`` that load nothing."""
_CSS_URL = re.compile(r"""url\(\s*["']?(?P<url>[^"')]+)|@import\s+["'](?P<imported>[^"']+)""")
_NOT_RENDERED = re.compile(r"^\s*(?:[-*] \S|\|.*\||\d+\. \S|#{1,6} \S|```)|\]\([^)\s]+\)", re.MULTILINE)


@dataclass(slots=True)
class Page:
    """A built page.

    Attributes:
        loads: The URLs that a browser requests by itself.
        links: The URLs that a reader can follow.
        anchors: The ids that links can point at.
        policy: The Content-Security-Policy, or an empty string.
        raw: The paragraphs in which Markdown was left as it was written.
    """

    loads: list[str] = field(default_factory=list[str])
    links: list[str] = field(default_factory=list[str])
    anchors: set[str] = field(default_factory=set[str])
    policy: str = ""
    raw: list[str] = field(default_factory=list[str])


def parse(html: str) -> Page:
    """Return the facts of a page."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    return parser.page


def css_loads(css: str) -> list[str]:
    """Return the URLs that a stylesheet loads."""
    return [found["url"] or found["imported"] for found in _CSS_URL.finditer(css)]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._text: list[str] | None = None
        self._code = 0
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        page = self.page
        if given.get("id"):
            page.anchors.add(given["id"])
        page.loads += [given[name] for name in _LOADS.get(tag, ()) if given.get(name)]
        page.loads += [part.split()[0] for part in given.get("srcset", "").split(",") if part.split()]
        page.loads += css_loads(given.get("style", ""))
        match tag:
            case "a":
                page.links += [given["href"]] if "href" in given else []
                page.anchors |= {given["name"]} if given.get("name") else set()
            case "link":
                to = page.links if given.get("rel") in _LINK_RELATIONS else page.loads
                to.append(given.get("href", ""))
            case "meta" if given.get("http-equiv", "").lower() == "content-security-policy":
                page.policy = given.get("content", "")
            case "p":
                self._text = []
            case "code" | "pre":
                self._code += 1
            case "style":
                self._style = True
            case _:
                pass

    def handle_endtag(self, tag: str) -> None:
        match tag:
            case "p" if self._text is not None:
                text = "".join(self._text)
                self._text = None
                if _NOT_RENDERED.search(text):
                    self.page.raw.append(text.strip())
            case "code" | "pre":
                self._code -= 1
            case "style":
                self._style = False
            case _:
                pass

    def handle_data(self, data: str) -> None:
        if self._style:
            self.page.loads += css_loads(data)
        elif self._text is not None:
            self._text.append("`" if self._code else data)
