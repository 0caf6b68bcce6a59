"""hack/check_layout.py on small repositories: which layouts fail, and with which fix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hack import check_layout
from tests.paths import ROOT


def write(root: Path, *paths: str, source: str = "") -> Path:
    """Write modules with the same source, and return the root."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(source)
    return root


def test_folder_passes_when_it_has_twelve_modules_and_an_init(tmp_path: Path):
    paths = [f"hack/tools/m{number}.py" for number in range(12)]
    assert check_layout.check(write(tmp_path, "hack/tools/__init__.py", *paths)) == []


@pytest.mark.parametrize("folder", ["hack/tools", "tests/unit/tools", "pipeline/distillery/tools", "models/micro"])
def test_folder_fails_when_it_has_thirteen_modules(tmp_path: Path, folder: str):
    (problem,) = check_layout.check(write(tmp_path, *(f"{folder}/m{number}.py" for number in range(13))))
    assert problem == f"{folder}: 13 modules: group them in folders of at most 12"


@pytest.mark.parametrize("folder", ["environments/webshop/pages", "tests/unit/environments/webshop"])
def test_folder_of_an_environment_may_have_more_modules(tmp_path: Path, folder: str):
    assert check_layout.check(write(tmp_path, *(f"{folder}/m{number}.py" for number in range(13)))) == []


def test_modules_fail_when_they_share_a_name(tmp_path: Path):
    (problem,) = check_layout.check(write(tmp_path, "hack/table.py", "pipeline/distillery/report/table.py"))
    assert problem.startswith("hack/table.py and pipeline/distillery/report/table.py: one name for two things")


@pytest.mark.parametrize(
    "paths",
    [
        ("operator/distillery_operator/main.py", "gateway/distillery_gateway/main.py"),
        ("pipeline/distillery/core/api/spec/canary.py", "operator/distillery_operator/decide/canary.py"),
        ("environments/webshop/prompts.py", "environments/alfworld/prompts.py"),
        ("tests/unit/test_loop.py", "tests/integration/test_loop.py"),
    ],
)
def test_modules_may_share_a_name_when_they_play_the_same_role(tmp_path: Path, paths: tuple[str, str]):
    assert check_layout.check(write(tmp_path, *paths)) == []


def test_test_modules_fail_when_they_share_a_name_in_one_kind_of_tests(tmp_path: Path):
    assert len(check_layout.check(write(tmp_path, "tests/unit/a/test_loop.py", "tests/unit/b/test_loop.py"))) == 1


@pytest.mark.parametrize(("lines", "problems"), [(500, 0), (501, 1)])
def test_module_fails_when_it_has_more_than_500_lines(tmp_path: Path, lines: int, problems: int):
    assert len(check_layout.check(write(tmp_path, "hack/long.py", source="pass\n" * lines))) == problems


@pytest.mark.parametrize(("length", "problems"), [(70, 0), (71, 1)])
def test_test_fails_when_its_name_has_more_than_70_characters(tmp_path: Path, length: int, problems: int):
    source = f"class TestIt:\n    async def test_{'x' * (length - 5)}(self): ...\n"
    assert len(check_layout.check(write(tmp_path, "tests/unit/test_it.py", source=source))) == problems


def test_folders_named_after_something_exist_in_the_repository():
    assert [folder for folder in check_layout.NAMED_AFTER if not (ROOT / folder).is_dir()] == []


@pytest.mark.parametrize(("count", "code"), [(12, 0), (13, 1)])
def test_layout_check_exits_with_1_when_there_is_a_problem(tmp_path: Path, count: int, code: int):
    write(tmp_path, *(f"hack/m{number}.py" for number in range(count)))
    done = subprocess.run([sys.executable, check_layout.__file__, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, bool(done.stdout)) == (code, bool(code))
