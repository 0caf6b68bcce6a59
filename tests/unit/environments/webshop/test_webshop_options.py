"""What WebShop can be asked for, and how it says no."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distillery.environments.base import EnvironmentConfigurationError
from distillery.environments.webshop.environment import WebShop


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"catalogue": "auto"}, "no option 'catalogue'; did you mean catalog?"),
        ({"zzz": 1}, "no option 'zzz'; it has catalog, goals, products, seed, nouns, shown, attributes"),
        ({"catalog": "amazon"}, "catalog is auto, webshop or generated, not 'amazon'"),
        ({"goals": "all"}, "goals is human or synthetic, not 'all'"),
        ({"products": 0}, "products is a whole number from 1, not 0"),
        ({"seed": -1}, "seed is a whole number from 0, not -1"),
        ({"seed": True}, "seed is a whole number from 0, not True"),
        ({"shown": 11}, "shown is a whole number from 1 to 10, not 11"),
        ({"nouns": 3}, "nouns is auto, rule or the name of a pipeline of spaCy's, not 3"),
        ({"nouns": "en_nothing"}, "en_nothing"),
        ({"attributes": "yes"}, "attributes is true or false, not 'yes'"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_right(options: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentConfigurationError) as caught:
        WebShop(options, tmp_path)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("catalog", ["auto", "webshop"])
def test_missing_files_are_named_before_anything_is_done(
    catalog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path))
    with pytest.raises(EnvironmentConfigurationError, match=r"which has no items_shuffle\*\.json"):
        WebShop({"catalog": catalog}, tmp_path)


def test_products_are_generated_where_there_are_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    assert "generated" in WebShop({}, tmp_path).source


def test_a_folder_that_nothing_was_prepared_in_is_named(tmp_path: Path) -> None:
    environment = WebShop({"catalog": "generated"}, tmp_path)
    with pytest.raises(EnvironmentConfigurationError, match=f"no whole shop in {tmp_path}: run prepare"):
        environment.catalog("train")


def test_an_unknown_split_is_refused_before_anything_is_generated(tmp_path: Path) -> None:
    environment = WebShop({"catalog": "generated"}, tmp_path / "new")
    with pytest.raises(EnvironmentConfigurationError, match=r"no split 'valid_seen'.*train, dev, test"):
        environment.prepare({"valid_seen": 1})
    assert not (tmp_path / "new").exists()


def test_the_plug_in_needs_no_engine() -> None:
    code = "import sys, distillery.environments.webshop.environment\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"bm25s", "numpy", "Stemmer", "spacy"} & set(loaded)


def test_a_missing_package_is_named_with_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from distillery.environments.webshop.environment import WebShop\n"
        "sys.modules['bm25s'] = None\n"
        "WebShop({'catalog': 'generated'}, pathlib.Path(sys.argv[1])).prepare({})"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert "EnvironmentConfigurationError: WebShop needs bm25s" in done.stderr
    assert "pip install 'distillery-agents[webshop]'" in done.stderr
