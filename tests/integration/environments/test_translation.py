"""The cache of translations: it saves work and can't do harm."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distillery_alfworld import alfworld_assets, translation
from distillery_alfworld.translation import translate

PROBLEM = """(define (problem tiny) (:domain alfred)
(:objects agent1 - agent here there - location desk - receptacle)
(:init (atLocation agent1 here) (receptacleAtLocation desk there) (atLocation agent1 here))
(:goal (atLocation agent1 there)))"""


@pytest.fixture(autouse=True)
def translations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILLERY_CACHE", str(tmp_path))
    return tmp_path


def refuse(domain: str, problem: str) -> str:
    raise AssertionError("translated again")


def entry_of(translations: Path) -> Path:
    (entry,) = (file for file in translations.rglob("*") if file.is_file())
    return entry


def test_translation_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = translate(alfworld_assets.DOMAIN, PROBLEM)
    monkeypatch.setattr(translation, "_translate", refuse)
    assert translate(alfworld_assets.DOMAIN, PROBLEM) == first
    assert first.startswith("begin_version")


def test_cache_has_an_entry_for_each_problem_and_domain(translations: Path) -> None:
    translate(alfworld_assets.DOMAIN, PROBLEM)
    translate(alfworld_assets.DOMAIN, PROBLEM + "\n")
    translate(alfworld_assets.DOMAIN + "\n", PROBLEM)
    assert len([file for file in translations.rglob("*") if file.is_file()]) == 3


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "replaced"])
def test_cache_entry_is_made_again_when_it_is_damaged(translations: Path, damage: str) -> None:
    first = translate(alfworld_assets.DOMAIN, PROBLEM)
    entry = entry_of(translations)
    whole = entry.read_bytes()
    flipped = whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]
    entry.write_bytes({"cut": whole[:-9], "emptied": b"", "flipped": flipped, "replaced": b"begin_version"}[damage])
    assert translate(alfworld_assets.DOMAIN, PROBLEM) == first
    assert entry.read_bytes() == whole


def test_translation_succeeds_when_the_cache_is_read_only(translations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (translations / "file").touch()
    monkeypatch.setenv("DISTILLERY_CACHE", str(translations / "file"))
    assert translate(alfworld_assets.DOMAIN, PROBLEM).startswith("begin_version")


def test_cache_drops_its_oldest_entries(translations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "_ENTRIES_PER_FOLDER", 3)
    for number in range(5):
        translation._write(translations / "ab" / str(number), "sas")
    assert sorted(entry.name for entry in (translations / "ab").iterdir()) == ["2", "3", "4"]


def test_translation_prints_nothing_and_keeps_argv(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "--option"])
    translate(alfworld_assets.DOMAIN, PROBLEM)
    assert sys.argv == ["program", "--option"]
    assert capfd.readouterr() == ("", "")
