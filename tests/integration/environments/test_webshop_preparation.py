"""Shops on disk: the same for a seed, complete or absent, from WebShop's own files or generated ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from distillery.environments.base import EnvironmentConfigurationError
from distillery_webshop.environment import WebShop

OPTIONS: dict[str, Any] = {"catalog": "generated", "seed": 1, "products": 60}


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    WebShop(OPTIONS, folder).prepare({"train": 10})
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture
def own(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files in the format of WebShop's own, as $WEBSHOP_DATA names it."""
    data = Path(shutil.copytree(made / "generated", tmp_path / "data"))
    monkeypatch.setenv("WEBSHOP_DATA", str(data))
    return data


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_seed_gives_the_same_bytes_in_every_process(made: Path, tmp_path: Path, hash_seed: str) -> None:
    code = (
        "import sys, pathlib; from distillery_webshop.environment import WebShop\n"
        f"WebShop({OPTIONS}, pathlib.Path(sys.argv[1])).prepare({{'train': 10}})"
    )
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, env=environment)
    assert tree(tmp_path) == tree(made)


def test_products_differ_when_the_seed_differs(made: Path, tmp_path: Path) -> None:
    WebShop(OPTIONS | {"seed": 2}, tmp_path).prepare({"train": 10})
    products = "generated/items_shuffle.json"
    assert tree(tmp_path)[products] != tree(made)[products]


def test_first_products_are_the_same_when_there_are_more(made: Path, tmp_path: Path) -> None:
    WebShop(OPTIONS | {"products": 80}, tmp_path).prepare({})
    few, many = (json.loads((folder / "generated/items_shuffle.json").read_text()) for folder in (made, tmp_path))
    assert many[:60] == few
    assert len({product["asin"] for product in many}) == 80


@pytest.mark.parametrize("goals", ["human", "synthetic"])
def test_prepare_generates_enough_products_for_the_tasks(tmp_path: Path, goals: str) -> None:
    environment = WebShop({"catalog": "generated", "goals": goals}, tmp_path)
    environment.prepare({"train": 1200, "test": 300})
    assert len(environment.catalog("train")) >= 1200
    assert len(environment.catalog("test")) >= 300


def test_prepare_changes_nothing_when_repeated(copy: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in copy.rglob("*.bin")}
    WebShop(OPTIONS, copy).prepare({"train": 10})
    assert {file: file.stat().st_mtime_ns for file in copy.rglob("*.bin")} == before


def test_prepare_makes_a_larger_shop_when_more_tasks_are_requested(tmp_path: Path) -> None:
    options = {"catalog": "generated"}
    WebShop(options, tmp_path).prepare({"train": 10})
    environment = WebShop(options, tmp_path)
    environment.prepare({"train": 900})
    assert len(environment.catalog("train")) >= 900


def test_prepare_resumes_when_it_was_killed(made: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from distillery_webshop.environment import WebShop\n"
        f"WebShop({OPTIONS}, pathlib.Path(sys.argv[1])).prepare({{'train': 10}})"
    )
    folder = tmp_path / "killed"
    with subprocess.Popen([sys.executable, "-c", code, folder]) as preparing:
        deadline = time.monotonic() + 60
        while not (folder / "unfinished").exists():
            assert time.monotonic() < deadline
            assert preparing.poll() is None
        preparing.kill()
    environment = WebShop(OPTIONS, folder)
    with pytest.raises(EnvironmentConfigurationError, match="run prepare again"):
        environment.catalog("train")
    environment.prepare({"train": 10})
    assert tree(folder) == tree(made)


def test_prepare_ends_when_the_report_raises(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        WebShop(OPTIONS, tmp_path).prepare({"train": 10}, report=stop)


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    WebShop(OPTIONS, tmp_path).prepare({"train": 8, "test": 2}, report=lambda *progress: reports.append(progress))
    assert reports == sorted(reports)
    assert reports[-1] == (10, 10)


@pytest.mark.parametrize("change", [{"seed": 2}, {"goals": "synthetic"}, {"products": 61}])
def test_folder_is_refused_when_it_has_another_shop(copy: Path, change: dict[str, Any]) -> None:
    with pytest.raises(EnvironmentConfigurationError, match=r"v1 \(60 products.*remove"):
        WebShop(OPTIONS | change, copy)


def test_source_names_shop_goals_seed_and_tagger(made: Path) -> None:
    assert WebShop(OPTIONS, made).source == ("generated shop v1 (60 products, human goals, seed 1, nouns by rule v1)")


def test_webshops_own_files_are_used_when_they_exist(own: Path, tmp_path: Path) -> None:
    environment = WebShop({"nouns": "rule"}, tmp_path / "folder")
    environment.prepare({})
    assert environment.source == "WebShop (60 products, human goals, seed 0, nouns by rule v1)"
    assert not (tmp_path / "folder" / "generated").exists()


def test_shop_works_when_the_files_are_gone(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WebShop({}, tmp_path / "folder").prepare({})
    monkeypatch.delenv("WEBSHOP_DATA")
    shutil.rmtree(own)
    environment = WebShop({}, tmp_path / "folder")
    assert environment.source.startswith("WebShop (60 products")
    assert environment.open(environment.catalog("test")[0]).step("search[lamp]").valid


def test_option_products_takes_only_the_first_ones(own: Path, tmp_path: Path) -> None:
    environment = WebShop({"products": 25}, tmp_path / "folder")
    environment.prepare({})
    assert environment.source.startswith("WebShop (25 products")


def test_duplicate_product_is_taken_once(own: Path, tmp_path: Path) -> None:
    file = own / "items_shuffle.json"
    products = json.loads(file.read_text())
    file.write_text(json.dumps([*products, *products[:5]]))
    environment = WebShop({}, tmp_path / "folder")
    environment.prepare({})
    assert environment.source.startswith("WebShop (60 products")


def test_prepare_names_the_entry_when_it_is_damaged(own: Path, tmp_path: Path) -> None:
    file = own / "items_shuffle.json"
    products = json.loads(file.read_text())
    del products[3]["query"]
    file.write_text(json.dumps(products))
    with pytest.raises(EnvironmentConfigurationError, match=r"entry 3 of .*items_shuffle\.json .*query"):
        WebShop({}, tmp_path / "folder").prepare({})


def test_prepare_names_the_file_when_it_is_cut_off(own: Path, tmp_path: Path) -> None:
    file = own / "items_shuffle.json"
    file.write_text(file.read_text()[:-200])
    with pytest.raises(EnvironmentConfigurationError, match=r"items_shuffle\.json"):
        WebShop({}, tmp_path / "folder").prepare({})
