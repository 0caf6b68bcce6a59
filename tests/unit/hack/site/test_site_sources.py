"""The staged sources of the documentation site: links, lists, and pages for files of the repository."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from hack.site.links import replace_links
from hack.site.lists import indent_lists
from hack.site.stage import BrokenLink, site_path, stage
from tests.paths import ROOT


def replaced(text: str) -> str:
    return replace_links(text, lambda line, target: f"{line}:{target}")


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_md", ".md").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](b.md)", "[a](1:b.md)"),
        ("![a](b.svg) and [c](d.md#e)", "![a](1:b.svg) and [c](1:d.md#e)"),
        ('[a](b.md "title")', '[a](1:b.md "title")'),
        ("\n[a]: b.md", "\n[a]: 2:b.md"),
        ("[a](https://example.com/b) [c](#d) [e](mailto:f@g)", "[a](https://example.com/b) [c](#d) [e](mailto:f@g)"),
    ],
)
def test_links_are_replaced_unless_absolute(text: str, expected: str):
    assert replaced(text) == expected


@pytest.mark.parametrize("text", ["```\n[a](b.md)\n```", "~~~~\n```\n[a](b.md)\n~~~~", "`[a](b.md)`"])
def test_links_in_code_stay(text: str):
    assert replaced(text) == text


def test_links_after_a_fence_are_replaced():
    assert replaced("```\n[a](b)\n```\n[a](b)") == "```\n[a](b)\n```\n[a](4:b)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n  b", "- a\n    b"),
        ("- a\n\n      code", "- a\n\n        code"),
        ("- a\n  - b\n    c\n- d", "- a\n    - b\n        c\n- d"),
        ("1. a\n   b\n\n   c", "1. a\n    b\n\n    c"),
        ("- a\n  ```\n  - code\n  ```\n- b", "- a\n    ```\n    - code\n    ```\n- b"),
        ("- a\n\nafter\n\n    code", "- a\n\nafter\n\n    code"),
        ("text\n- a\n- b", "text\n\n- a\n- b"),
        ("```\ntext\n- a\n```", "```\ntext\n- a\n```"),
    ],
)
def test_lists_are_indented_for_python_markdown(text: str, expected: str):
    assert indent_lists(text) == expected


def test_linked_file_becomes_a_page_when_it_is_outside_docs(tmp_path: Path):
    root = write(tmp_path / "repository", docs__guides__a_md="[b](../../src/b.py)", src__b_py="x = '```'\n")
    assert stage(root, tmp_path / "staged") == ["src/b.py"]
    assert (tmp_path / "staged/guides/a.md").read_text() == "[b](../source/src/b.py.md)"
    page = (tmp_path / "staged/source/src/b.py.md").read_text()
    assert "# `src/b.py`" in page
    assert "````python\nx = '```'\n````" in page


def test_links_of_a_linked_page_are_followed(tmp_path: Path):
    root = write(tmp_path / "r", docs__a_md="[x](../README.md#y)", README_md="[a](docs/a.md) [b](b.py)", b_py="")
    assert stage(root, tmp_path / "staged") == ["README.md", "b.py"]
    assert (tmp_path / "staged/a.md").read_text() == "[x](source/README.md#y)"
    assert (tmp_path / "staged/source/README.md").read_text().endswith("[a](../a.md) [b](b.py.md)")


def test_linked_folder_lists_its_files(tmp_path: Path):
    root = write(tmp_path / "r", docs__a_md="[x](../src)", src__b_py="", src__c_py="")
    assert stage(root, tmp_path / "staged") == ["src", "src/b.py", "src/c.py"]
    assert "- [`b.py`](b.py.md)" in (tmp_path / "staged/source/src/index.md").read_text()


def test_large_file_of_a_folder_is_named_and_not_listed(tmp_path: Path):
    write(tmp_path, docs__index_md="[a](../locks)", locks__small_py="a")
    (tmp_path / "locks" / "large.txt").write_text("a" * 300_000)
    assert stage(tmp_path, tmp_path / "site") == ["locks", "locks/small.py"]
    text = (tmp_path / "site/source/locks/index.md").read_text()
    assert "- [`small.py`](small.py.md)" in text
    assert "- `large.txt`\n" in text


def test_badges_are_left_out(tmp_path: Path):
    badge = "https://img.shields.io/badge/a-b-blue"
    write(
        tmp_path,
        docs__index_md="[a](../README.md)",
        README_md=f"# A\n\n[![b]({badge})](LICENSE)\n![c]({badge})\n\nText.",
    )
    stage(tmp_path, tmp_path / "site")
    text = (tmp_path / "site/source/README.md").read_text()
    assert "shields" not in text
    assert text.endswith("# A\n\n\nText.")


def test_staging_fails_when_a_link_leads_nowhere(tmp_path: Path):
    root = write(tmp_path / "r", docs__a_md="\n[x](../b.md)")
    with pytest.raises(BrokenLink, match=r"docs/a\.md:2: \.\./b\.md is not in the repository"):
        stage(root, tmp_path / "staged")


def test_staging_fails_when_a_link_leaves_the_repository(tmp_path: Path):
    root = write(tmp_path / "r", docs__a_md="[x](../../r2/b.md)")
    write(tmp_path / "r2", b_md="")
    with pytest.raises(BrokenLink):
        stage(root, tmp_path / "staged")


def test_hidden_folders_are_visible_on_the_site():
    assert site_path(ROOT, ".github/workflows/a.yaml") == "source/github/workflows/a.yaml.md"


def test_build_needs_only_the_standard_library():
    """`make docs` runs without `make install`."""
    for path in (ROOT / "hack/site").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert all(name.partition(".")[0] in {*sys.stdlib_module_names, "hack"} for name in names), path


def test_repository_can_be_staged(tmp_path: Path):
    assert "README.md" in stage(ROOT, tmp_path / "staged")
