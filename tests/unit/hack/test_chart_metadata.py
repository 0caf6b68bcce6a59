"""The chart's metadata for Artifact Hub: it names what the repository has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from distillery import __version__
from distillery.core.api import parse
from hack import set_version as tool
from hack.release_chart import CHART, ROOT, name_owner
from hack.release_images import IMAGES

PREFIX = "artifacthub.io/"
KINDS = {"added", "changed", "deprecated", "removed", "fixed", "security"}


@pytest.fixture(scope="module")
def hub() -> dict[str, Any]:
    """The annotations, those that hold YAML as data."""
    metadata = yaml.safe_load((CHART / "Chart.yaml").read_text())
    found = {name.removeprefix(PREFIX): text for name, text in metadata["annotations"].items()}
    assert all(isinstance(text, str) for text in found.values())
    return {name: yaml.safe_load(text) for name, text in found.items()}


@pytest.fixture(scope="module")
def definition() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "crds" / "distillery.dev_distillationruns.yaml").read_text())


def test_metadata_names_the_definition_of_the_resource(hub: dict[str, Any], definition: dict[str, Any]):
    (crd,) = hub["crds"]
    served = [version["name"] for version in definition["spec"]["versions"] if version["storage"]]
    assert (crd["name"], crd["kind"]) == (definition["metadata"]["name"], definition["spec"]["names"]["kind"])
    assert [crd["version"]] == served
    assert crd.keys() == {"kind", "version", "name", "displayName", "description"}


def test_examples_of_the_metadata_are_valid_runs(hub: dict[str, Any]):
    assert hub["crdsExamples"]
    for example in hub["crdsExamples"]:
        parse(example)


def test_metadata_names_every_image_of_the_chart(hub: dict[str, Any]):
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    wanted = {"operator": values["image"], **{k: v for k, v in values["images"].items() if isinstance(v, dict)}}
    expected = {
        name: f"{image['registry'] or 'ghcr.io/OWNER'}/{image['repository']}:{image['tag'] or __version__}"
        for name, image in wanted.items()
    }
    assert {image["name"]: image["image"] for image in hub["images"]} == expected


def test_metadata_names_the_platforms_that_a_release_builds(hub: dict[str, Any]):
    named = {
        entry["image"].rpartition("/")[2].partition(":")[0]: tuple(entry["platforms"])
        for entry in hub["images"]
        if "platforms" in entry
    }
    assert named == {name: image.platforms for name, image in IMAGES.items()}


def test_changes_have_a_kind_and_links_an_address(hub: dict[str, Any]):
    assert hub["changes"]
    assert {change["kind"] for change in hub["changes"]} <= KINDS
    assert all(change["description"] for change in hub["changes"])
    assert all(link["name"] and link["url"].startswith("https://") for link in hub["links"])


def test_metadata_has_the_license_of_the_packages(hub: dict[str, Any]):
    assert hub["license"] == "Apache-2.0"


def test_metadata_says_prerelease_when_the_version_is_one(hub: dict[str, Any]):
    assert hub["prerelease"] is ("-" in __version__)


@pytest.mark.parametrize(("version", "written"), [("98.76.54", '"false"'), ("98.76.54-rc.3", '"true"')])
def test_set_version_writes_prerelease_when_it_changes_the_chart(tmp_path: Path, version: str, written: str):
    for file in {file for form in tool.FORMS for pattern in form.files for file in ROOT.glob(pattern)}:
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text())
    tool.set_version(tmp_path, version)
    assert f"artifacthub.io/prerelease: {written}\n" in (tmp_path / tool.CHART).read_text()


def test_package_names_its_owner_when_it_is_made():
    named = name_owner((CHART / "Chart.yaml").read_text(), "Acme")
    assert "ghcr.io/acme/distillery/operator:" in named
    assert "https://github.com/Acme/distillery\n" in named
    assert "https://acme.github.io/distillery\n" in named
    assert "OWNER" not in named.partition("\nannotations:")[2]


def test_repository_metadata_is_yaml_without_an_invented_identity():
    metadata = yaml.safe_load((ROOT / "charts" / "artifacthub-repo.yml").read_text())
    assert metadata.keys() <= {"repositoryID", "owners", "ignore"}
    assert "00000000" not in str(metadata)
