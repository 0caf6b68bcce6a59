"""Which words of a title count as nouns, and who says so."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from distillery.environments.base import EnvironmentConfigurationError
from distillery_webshop import nouns


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Pretend that just these packages are installed."""

    def version(package: str) -> str:
        if package not in versions:
            raise PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(nouns, "version", version)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Oak Lamp with a Shade", ("oak", "lamp", "shade")),
        ("Women's 6.6ft 2 Pack S10e Vanity/Bathroom Light", ("women", "pack", "s10e", "vanity", "bathroom", "light")),
        ("USB C Cable, 10pcs, x", ("usb", "c", "cable")),
        ("Lamp lamp LAMP", ("lamp", "lamp", "lamp")),
        ("for the two of us", ()),
    ],
)
def test_rule_excludes_function_words_and_numbers(title: str, expected: tuple[str, ...]) -> None:
    taken = tuple(word for word in nouns.find_by_rule(title) if word != "pcs")
    assert taken == expected


def test_rule_is_used_when_spacy_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    assert nouns.choose_tagger("auto") == "rule v1"


def test_spacy_is_preferred_when_its_pipeline_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, spacy="3.8.1", en_core_web_sm="3.8.0")
    assert nouns.choose_tagger("auto") == "en_core_web_sm 3.8.0"
    assert nouns.choose_tagger("rule") == "rule v1"


def test_error_names_the_pipeline_when_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, spacy="3.8.1")
    with pytest.raises(EnvironmentConfigurationError, match=r"en_core_web_lg isn't installed.*nouns: rule"):
        nouns.choose_tagger("en_core_web_lg")


def test_load_refuses_another_version_than_the_shops(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, spacy="3.8.1", en_core_web_sm="3.9.0")
    with pytest.raises(EnvironmentConfigurationError, match=r"nouns of en_core_web_sm 3.8.0, and here it is .* 3.9.0"):
        nouns.load_tagger("en_core_web_sm 3.8.0")


def test_rule_is_loaded_by_its_name() -> None:
    assert nouns.load_tagger("rule v1")("Oak Lamp") == ("oak", "lamp")
