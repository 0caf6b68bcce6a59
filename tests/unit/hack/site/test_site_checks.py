"""The checks of the built documentation site."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hack.site.check import find_navigation_problems, find_problems
from hack.site.pages import parse
from tests.paths import ROOT

POLICY = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'self'; img-src 'self' data:\">"


def problems(folder: Path, **pages: str) -> list[str]:
    for name, body in pages.items():
        path = folder / ("index.html" if name == "index" else f"{name}/index.html")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<html><head>{POLICY}</head><body>{body}</body></html>", encoding="utf-8")
    return find_problems(folder)


def test_check_finds_no_problem_when_the_site_is_valid(tmp_path: Path):
    (tmp_path / "a.svg").write_text("")
    sound = (
        '<a href="b/#c">x</a> <a href="#d">y</a> <p id="d"></p> <img src="a.svg"> <a href="https://example.com">z</a>'
    )
    assert problems(tmp_path, index=sound, b='<h2 id="c"></h2><a href="..">up</a>') == []


@pytest.mark.parametrize(
    "link",
    ['<a href="nowhere/">', '<img src="nowhere.png">', '<script src="nowhere.js"></script>', '<a href="../outside/">'],
)
def test_link_is_broken_when_nothing_is_there(tmp_path: Path, link: str):
    (found,) = problems(tmp_path, index=link)
    assert found.startswith("index.html: links to ")
    assert found.endswith("which is not there")


def test_link_is_broken_when_the_heading_is_missing(tmp_path: Path):
    (found,) = problems(tmp_path, index='<a href="b/#nothing">', b="")
    assert found == "index.html: links to b/#nothing, and b/index.html has no such heading"


@pytest.mark.parametrize(
    "load",
    [
        '<script src="https://cdn.example.com/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.com/a.css">',
        '<link rel="preconnect" href="https://fonts.example.com">',
        '<img src="https://example.com/a.png">',
        '<img srcset="https://example.com/a.png 2x">',
        '<iframe src="https://example.com"></iframe>',
        '<div style="background: url(https://example.com/a.png)"></div>',
        "<style>@import 'https://example.com/a.css';</style>",
    ],
)
def test_page_may_not_load_from_another_host(tmp_path: Path, load: str):
    (found,) = problems(tmp_path, index=load)
    assert found.startswith("index.html: loads ")


def test_stylesheet_may_not_load_from_another_host(tmp_path: Path):
    (tmp_path / "a.css").write_text("a { background: url('data:image/png;base64,') } b { src: url(https://e.com/f) }")
    assert problems(tmp_path) == ["a.css: loads https://e.com/f"]


def test_page_needs_a_content_security_policy(tmp_path: Path):
    (tmp_path / "index.html").write_text("<p>text</p>")
    (found,) = find_problems(tmp_path)
    assert "Content-Security-Policy" in found


@pytest.mark.parametrize("text", ["before\n- a\n- b", "| a | b |", "see [a](b.md)", "```", "# title"])
def test_markdown_that_was_not_rendered_is_found(text: str):
    assert parse(f"<p>{text}</p>").raw


@pytest.mark.parametrize("text", ["a - b", "<code>[a](b.md)</code>", "1.5 times", "a | b"])
def test_prose_is_not_taken_for_markdown(text: str):
    assert not parse(f"<p>{text}</p>").raw


def test_every_page_has_one_place_in_the_navigation():
    navigation = [{"Home": "index.md"}, {"Guides": [{"A": "a.md"}, "b.md", {"C": "gone.md"}, "b.md"]}]
    assert find_navigation_problems(navigation, ["index.md", "a.md", "b.md", "new.md"]) == [
        "new.md: is not in the navigation: add it to nav in zensical.toml",
        "nav names gone.md, which is not there",
        "nav names b.md twice",
    ]


def test_navigation_names_the_pages_of_the_repository():
    navigation = tomllib.loads((ROOT / "hack/site/zensical.toml").read_text())["project"]["nav"]
    docs = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert find_navigation_problems(navigation, docs) == []
