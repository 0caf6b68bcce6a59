"""The cache of translations: it saves work and can't do harm."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distillery.environments.alfworld import translation, wheel
from distillery.environments.alfworld.translation import translate

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


def test_a_game_is_translated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = translate(wheel.DOMAIN, PROBLEM)
    monkeypatch.setattr(translation, "_translate", refuse)
    assert translate(wheel.DOMAIN, PROBLEM) == first
    assert first.startswith("begin_version")


def test_another_problem_or_domain_is_another_entry(translations: Path) -> None:
    translate(wheel.DOMAIN, PROBLEM)
    translate(wheel.DOMAIN, PROBLEM + "\n")
    translate(wheel.DOMAIN + "\n", PROBLEM)
    assert len([file for file in translations.rglob("*") if file.is_file()]) == 3


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "replaced"])
def test_a_damaged_entry_is_made_anew(translations: Path, damage: str) -> None:
    first = translate(wheel.DOMAIN, PROBLEM)
    entry = entry_of(translations)
    whole = entry.read_bytes()
    flipped = whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]
    entry.write_bytes({"cut": whole[:-9], "emptied": b"", "flipped": flipped, "replaced": b"begin_version"}[damage])
    assert translate(wheel.DOMAIN, PROBLEM) == first
    assert entry.read_bytes() == whole


def test_a_cache_that_cannot_be_written_to_breaks_nothing(translations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (translations / "file").touch()
    monkeypatch.setenv("DISTILLERY_CACHE", str(translations / "file"))
    assert translate(wheel.DOMAIN, PROBLEM).startswith("begin_version")


def test_the_cache_drops_its_oldest_entries(translations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "_ENTRIES_PER_FOLDER", 3)
    for number in range(5):
        translation._write(translations / "ab" / str(number), "sas")
    assert sorted(entry.name for entry in (translations / "ab").iterdir()) == ["2", "3", "4"]


def test_nothing_is_printed_and_the_arguments_stay(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "--option"])
    translate(wheel.DOMAIN, PROBLEM)
    assert sys.argv == ["program", "--option"]
    assert capfd.readouterr() == ("", "")
