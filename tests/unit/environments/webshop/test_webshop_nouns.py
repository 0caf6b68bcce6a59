"""Which words of a title count as nouns, and who says so."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from distillery.environments.base import EnvironmentConfigurationError
from distillery.environments.webshop import nouns


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
def test_the_rule_takes_words_but_function_words_and_numbers(title: str, expected: tuple[str, ...]) -> None:
    taken = tuple(word for word in nouns.find_by_rule(title) if word != "pcs")
    assert taken == expected


def test_the_rule_is_taken_where_spacy_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    assert nouns.choose("auto") == "rule v1"


def test_spacy_is_preferred_where_it_is_installed_with_its_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, spacy="3.8.1", en_core_web_sm="3.8.0")
    assert nouns.choose("auto") == "en_core_web_sm 3.8.0"
    assert nouns.choose("rule") == "rule v1"


def test_a_pipeline_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, spacy="3.8.1")
    with pytest.raises(EnvironmentConfigurationError, match=r"en_core_web_lg isn't installed.*nouns: rule"):
        nouns.choose("en_core_web_lg")


def test_another_version_than_the_shop_was_made_with_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, spacy="3.8.1", en_core_web_sm="3.9.0")
    with pytest.raises(EnvironmentConfigurationError, match=r"nouns of en_core_web_sm 3.8.0, and here it is .* 3.9.0"):
        nouns.load("en_core_web_sm 3.8.0")


def test_the_rule_is_loaded_by_its_name() -> None:
    assert nouns.load("rule v1")("Oak Lamp") == ("oak", "lamp")
