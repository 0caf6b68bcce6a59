"""What WebShop can be asked for, and how it says no."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distillery.environments.base import EnvironmentConfigurationError
from distillery_webshop.environment import WebShop


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"catalogs": "auto"}, "no option 'catalogs'; did you mean catalog?"),
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
def test_option_error_names_the_option_and_its_values(options: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentConfigurationError) as caught:
        WebShop(options, tmp_path)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("catalog", ["auto", "webshop"])
def test_constructor_names_missing_files(catalog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path))
    with pytest.raises(EnvironmentConfigurationError, match=rf"{tmp_path}.*items_shuffle\*\.json"):
        WebShop({"catalog": catalog}, tmp_path)


def test_products_are_generated_when_there_are_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    assert "generated" in WebShop({}, tmp_path).source


def test_catalog_names_the_folder_when_it_is_not_prepared(tmp_path: Path) -> None:
    environment = WebShop({"catalog": "generated"}, tmp_path)
    with pytest.raises(EnvironmentConfigurationError, match=f"{tmp_path}: run prepare"):
        environment.catalog("train")


def test_prepare_refuses_an_unknown_split_before_it_generates(tmp_path: Path) -> None:
    environment = WebShop({"catalog": "generated"}, tmp_path / "new")
    with pytest.raises(EnvironmentConfigurationError, match=r"valid_seen.*train, dev, test"):
        environment.prepare({"valid_seen": 1})
    assert not (tmp_path / "new").exists()


def test_plug_in_loads_no_engine() -> None:
    code = "import sys, distillery_webshop.environment\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"bm25s", "numpy", "Stemmer", "spacy"} & set(loaded)


def test_webshop_names_the_missing_package_and_how_to_install_it(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from distillery_webshop.environment import WebShop\n"
        "sys.modules['bm25s'] = None\n"
        "WebShop({'catalog': 'generated'}, pathlib.Path(sys.argv[1])).prepare({})"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert "EnvironmentConfigurationError: WebShop needs bm25s" in done.stderr
    assert "pip install distillery-webshop" in done.stderr
