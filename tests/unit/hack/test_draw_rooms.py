"""hack/draw_rooms.py on a small distribution: its rooms, their floors, their purpose, and circles."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hack import draw_rooms

MODULES = {
    "__init__": '"""A shop."""',
    "till/__init__": '"""The till: it adds up.\n\nAnd more."""',
    "till/main": "from corner_shop import goods\nfrom corner_shop.prices import list_prices",
    "goods": '"""The ``goods``. All of them."""\nimport json',
    "prices/__init__": '"""The prices."""',
    "prices/list_prices": "",
}
EXPECTED = """\
### `corner_shop`

```text
till
goods   prices
```

| room | purpose | imports |
| --- | --- | --- |
| `goods` | The `goods`. |  |
| `prices` | The prices. |  |
| `till` | The till: it adds up. | `goods`, `prices` |"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one distribution."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "pyproject.toml").touch()
    for name, source in MODULES.items():
        file = tmp_path / "gateway" / "corner_shop" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return tmp_path


def test_section_has_floors_purpose_and_imports_of_each_room(shop: Path):
    assert draw_rooms.write_section(shop) == EXPECTED


def test_rooms_share_a_floor_and_an_arrow_when_they_import_each_other(shop: Path):
    (shop / "gateway" / "corner_shop" / "goods.py").write_text("from corner_shop.till import main")
    assert "```text\ngoods <-> till\nprices\n```" in draw_rooms.write_section(shop)


def test_packages_are_found_when_their_distribution_is_an_environment(shop: Path):
    package = shop / "environments" / "chess" / "distillery_chess"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert list(draw_rooms.find_packages(shop)) == ["corner_shop"]
    (package.parent / "pyproject.toml").touch()
    assert list(draw_rooms.find_packages(shop)) == ["corner_shop", "distillery_chess"]


def test_rooms_of_another_package_are_named_by_package_and_room():
    assert draw_rooms._room_of("distillery.core.api.spec.canary", frozenset()) == "distillery.core.api"
    assert draw_rooms._room_of("distillery.hints.bank", frozenset()) == "distillery.hints"


def test_section_is_replaced_between_its_marks_only():
    page = f"before\n{draw_rooms.BEGIN}\nold\n{draw_rooms.END}\nafter\n"
    changed = draw_rooms.replace_section(page, "new")
    assert changed == f"before\n{draw_rooms.BEGIN}\n\nnew\n\n{draw_rooms.END}\nafter\n"
    assert draw_rooms.replace_section(changed, "new") == changed


def test_replacement_fails_when_the_page_lacks_the_marks():
    with pytest.raises(ValueError, match="lacks the marks"):
        draw_rooms.replace_section(f"{draw_rooms.BEGIN}\nno end", "new")
