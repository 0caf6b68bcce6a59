"""hack/mutants.py: which changes it makes, and which of them the tests of a small package kill."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hack import mutants

SOURCE = "def is_large(count: int) -> bool:\n    return count > 3\n"
TESTS = """\
from shop.core.limits import is_large


def test_is_large():
    assert is_large(9) and is_large(2) is False
"""
PATH = "pipeline/shop/core/limits.py"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one deciding module and its tests."""
    files = {
        PATH: SOURCE, "tests/unit/core/test_limits.py": TESTS, "pipeline/pyproject.toml": "",
        "hack/equivalent_mutants.txt": "",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def changes(source: str) -> list[tuple[str, str]]:
    """Return what is replaced in a module, and by what."""
    return [(mutant.before, mutant.after) for mutant in mutants.find_mutants("m.py", source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", [("a < b", "(a <= b)"), ("a < b", "(a >= b)")]),
        ("a <= b != c", [("a <= b != c", f"(a {swap} c)") for swap in ("< b !=", "<= b ==", "> b !=")]),
        ("a is None", [("a is None", "(a is not None)")]),
        ("a in b", [("a in b", "(a not in b)")]),
        ("a and b or c", [("a and b", "(a or b)"), ("a and b or c", "((a and b) and c)")]),
        ("a + b", [("a + b", "(a - b)")]),
        ("not a", [("not a", "(a)")]),
        ("if a: b", [("a", "(False)"), ("a", "(True)")]),
        ("b if a else c", [("a", "(False)"), ("a", "(True)")]),
        ("[a for a in b if c]", [("c", "(True)")]),
        ("match a:\n    case b if c: d", [("c", "(False)"), ("c", "(True)")]),
        ("def f(): return a", [("return a", "return")]),
        ("def f(): return None", []),
        ("def f(a: int | None) -> None: ...", []),
    ],
)
def test_mutants_of_a_module(source: str, expected: list[tuple[str, str]]):
    assert sorted(changes(source)) == sorted(expected)


def test_mutant_changes_one_place_when_text_before_it_has_wide_characters():
    (mutant,) = mutants.find_mutants("m.py", 'class C:\n    def f(self):\n        "ü"; é = not self\n')
    assert mutant.apply('class C:\n    def f(self):\n        "ü"; é = not self\n').endswith('"ü"; é = (self)\n')
    assert (mutant.line, mutant.key) == (3, "m.py::C.f: not self -> (self)")


def test_mutants_that_read_the_same_are_numbered():
    keys = [mutant.key for mutant in mutants.find_mutants("m.py", "def f(a): return [a + 1, a + 1]\n")]
    assert keys == [
        "m.py::f: return [a + 1, a + 1] -> return", "m.py::f: a + 1 -> (a - 1)", "m.py::f: a + 1 -> (a - 1) #2",
    ]  # fmt: skip


def test_own_tests_of_a_module_run_first(repository: Path):
    for name in ("test_all.py", "test_limits.py"):
        (repository / "tests/unit/core" / name).touch()
    assert mutants.list_tests(repository, PATH) == ["tests/unit/core/test_limits.py", "tests/unit/core/test_all.py"]


def test_mutants_survive_when_no_test_of_the_area_fails(repository: Path, capsys: pytest.CaptureFixture[str]):
    (survivor,) = mutants.run(repository, mutants.find_mutants(PATH, SOURCE))
    assert survivor.key == f"{PATH}::is_large: count > 3 -> (count >= 3)"
    printed = capsys.readouterr().out
    assert f"survived: {PATH}:2\n{survivor.key}\n" in printed
    assert "-    return count > 3\n+    return (count >= 3)" in printed
    assert (repository / PATH).read_text() == SOURCE


def test_run_fails_when_the_tests_fail_without_a_mutant(repository: Path):
    (repository / PATH).write_text("def limit(count): return 4")
    with pytest.raises(RuntimeError, match="tests/unit/core fails without a mutant"):
        mutants.run(repository, mutants.find_mutants(PATH, "def limit(count): return 4"))


@pytest.mark.parametrize(("listed", "code"), [(False, 1), (True, 0)])
def test_program_fails_unless_survivors_are_listed(
    repository: Path, monkeypatch: pytest.MonkeyPatch, *, listed: bool, code: int
):
    def run(root: Path, sample: Sequence[mutants.Mutant]) -> list[mutants.Mutant]:
        return [mutant for mutant in sample if ">=" in mutant.after]

    monkeypatch.setattr(mutants, "ROOT", repository)
    monkeypatch.setattr(mutants, "DECIDING", {"pipeline/shop": ("core/limits.py",)})
    monkeypatch.setattr(mutants, "run", run)
    monkeypatch.setattr(sys, "argv", ["mutants", "--count=100"])
    if listed:
        (survivor,) = run(repository, mutants.find_mutants(PATH, SOURCE))
        (repository / "hack" / "equivalent_mutants.txt").write_text(f"# Counts are odd.\n{survivor.key}\n")
    assert mutants.main() == code


def test_sample_is_the_same_when_the_seed_is(repository: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mutants, "ROOT", repository)
    monkeypatch.setattr(mutants, "DECIDING", {"pipeline/shop": ("core/*.py",)})
    samples = list[object]()
    monkeypatch.setattr(mutants, "run", lambda root, sample: samples.append(sample) or [])
    for seed in (1, 1, 5):
        monkeypatch.setattr(sys, "argv", ["mutants", "--count=1", f"--seed={seed}"])
        assert mutants.main() == 0
    assert samples[0] == samples[1] != samples[2]


def test_sample_stays_but_for_one_when_an_equivalent_is_listed(repository: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mutants, "ROOT", repository)
    monkeypatch.setattr(mutants, "DECIDING", {"pipeline/shop": ("core/*.py",)})
    monkeypatch.setattr(sys, "argv", ["mutants", "--count=2"])
    samples = list[set[str]]()
    monkeypatch.setattr(mutants, "run", lambda root, sample: samples.append({mutant.key for mutant in sample}) or [])
    assert mutants.main() == 0
    (repository / "hack" / "equivalent_mutants.txt").write_text(f"# Why.\n{min(samples[0])}\n")
    assert mutants.main() == 0
    assert samples[1] & samples[0] == samples[0] - {min(samples[0])}
    assert len(samples[1]) == 2


def test_equivalents_need_a_reason():
    assert mutants.read_equivalents("# Why.\nm.py::f: a -> b\n") == {"m.py::f: a -> b": "# Why."}
    with pytest.raises(ValueError, match="write the reason above each mutant"):
        mutants.read_equivalents("# Why.\nm.py::f: a -> b\nm.py::f: a -> c\n")


def test_program_fails_when_an_equivalent_is_no_mutant_any_more(repository: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mutants, "ROOT", repository)
    monkeypatch.setattr(mutants, "DECIDING", {"pipeline/shop": ("core/limits.py",)})
    monkeypatch.setattr(sys, "argv", ["mutants"])
    (repository / "hack" / "equivalent_mutants.txt").write_text("# Why.\nm.py::f: a -> b\n")
    assert mutants.main() == 1


def test_table_names_modules_and_tests_that_exist():
    folders = {mutants.tests_of(mutants.ROOT, path) for path in mutants.deciding_modules(mutants.ROOT)}
    assert all(any((mutants.ROOT / folder).glob("**/test_*.py")) for folder in folders)
    assert "tests/unit" not in folders


def test_table_fails_when_a_module_is_not_there(repository: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mutants, "DECIDING", {"pipeline/shop": ("core/limits.py", "core/moved.py")})
    with pytest.raises(ValueError, match=r"pipeline/shop/core/moved\.py"):
        mutants.deciding_modules(repository)
