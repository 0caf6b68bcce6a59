"""hack/build_dists.py: the distributions have their names, one version, and all files of their packages."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.version import Version

from distillery import __version__
from hack.build_dists import PACKAGES, ROOT, build

NAMES = {
    "pipeline": "distillery-agents",
    "operator": "distillery-operator",
    "gateway": "distillery-gateway",
    "environments/alfworld": "distillery-alfworld",
    "environments/webshop": "distillery-webshop",
}
VERSION = Version(__version__)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the distributions, built once."""
    folder = tmp_path_factory.mktemp("dist")
    (folder / "distillery_agents-0.0.1.tar.gz").touch()
    build(folder, uv=Path(sys.executable).with_name("uv"), isolated=False)
    return folder


def wheel(dist: Path, package: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(dist / f"{NAMES[package].replace('-', '_')}-{VERSION}-py3-none-any.whl")


def read_metadata(dist: Path, package: str) -> Metadata:
    """The metadata of a wheel, checked as PyPI does."""
    with wheel(dist, package) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Metadata.from_email(archive.read(name), validate=True)


def sources(package: str) -> set[str]:
    """The files below the folder of a package that Python or the package reads."""
    (module,) = (path.parent for path in (ROOT / package).glob("*/__init__.py"))
    made = ("__pycache__", ".egg-info")
    files = (path for path in module.rglob("*") if path.is_file() and not any(part in str(path) for part in made))
    return {path.relative_to(ROOT / package).as_posix() for path in files}


def test_dist_has_an_sdist_and_a_wheel_of_each_package(dist: Path):
    stems = {f"{name.replace('-', '_')}-{VERSION}" for name in NAMES.values()}
    expected = {f"{stem}{suffix}" for stem in stems for suffix in (".tar.gz", "-py3-none-any.whl")}
    assert {path.name for path in dist.iterdir()} == expected


@pytest.mark.parametrize("package", PACKAGES)
def test_metadata_is_what_an_index_shows(dist: Path, package: str):
    metadata = read_metadata(dist, package)
    assert (metadata.name, metadata.version, metadata.license_expression) == (NAMES[package], VERSION, "Apache-2.0")
    assert metadata.description
    assert metadata.description.startswith(f"# {NAMES[package]}\n")
    assert metadata.license_files == ["LICENSE"]


@pytest.mark.parametrize("package", [package for package in PACKAGES if package != "pipeline"])
def test_package_requires_the_pipeline_of_its_own_version(dist: Path, package: str):
    (pin,) = (need for need in read_metadata(dist, package).requires_dist or [] if need.name == NAMES["pipeline"])
    assert pin.specifier.contains(VERSION, prereleases=True)
    assert [one.operator for one in pin.specifier] == ["=="]


@pytest.mark.parametrize("name", ["alfworld", "webshop"])
def test_extra_of_the_pipeline_names_the_environment_of_its_version(dist: Path, name: str):
    requirements = read_metadata(dist, "pipeline").requires_dist or []
    (pin,) = (need for need in requirements if need.name == NAMES[f"environments/{name}"])
    assert str(pin.marker) == f'extra == "{name}"'
    assert pin.specifier.contains(VERSION, prereleases=True)


def test_gpl_requirement_is_only_that_of_alfworld(dist: Path):
    needs = {package: {need.name for need in read_metadata(dist, package).requires_dist or []} for package in PACKAGES}
    assert [package for package in PACKAGES if "fast-downward-textworld" in needs[package]] == ["environments/alfworld"]


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_has_every_file_of_its_package(dist: Path, package: str):
    with wheel(dist, package) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert files == sources(package)


def test_wheel_of_the_pipeline_has_migrations_and_the_report(dist: Path):
    with wheel(dist, "pipeline") as archive:
        files = archive.namelist()
    assert "distillery/report/page.html.jinja" in files
    assert "distillery/database/migrations/versions/0001_initial.py" in files


@pytest.mark.parametrize("package", PACKAGES)
def test_sdist_has_the_license_and_nothing_of_a_build(dist: Path, package: str):
    with tarfile.open(dist / f"{NAMES[package].replace('-', '_')}-{VERSION}.tar.gz") as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", *sources(package)} <= files
    assert not [name for name in files if "__pycache__" in name]
