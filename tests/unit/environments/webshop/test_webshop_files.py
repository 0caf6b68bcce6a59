"""WebShop's files: which are taken, and how they are read piece by piece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distillery.environments.base import EnvironmentConfigurationError
from distillery_webshop import datafiles, jsonstream
from distillery_webshop.records import Records, RecordsWriter


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path))
    return tmp_path


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("[]")


def chosen(first: int | None = None) -> list[str]:
    files = datafiles.find_files(first)
    return [files.products.name, files.attributes.name, files.instructions.name]


def test_only_catalog_is_used(data: Path) -> None:
    put(data, "items_shuffle_1000.json", "items_ins_v2_1000.json", "items_human_ins.json")
    assert chosen() == ["items_shuffle_1000.json", "items_ins_v2_1000.json", "items_human_ins.json"]


def test_full_catalog_is_used_unless_a_number_names_another(data: Path) -> None:
    put(data, "items_shuffle.json", "items_ins_v2.json", "items_human_ins.json")
    put(data, "items_shuffle_1000.json", "items_ins_v2_1000.json")
    assert chosen()[0] == "items_shuffle.json"
    assert chosen(1000)[:2] == ["items_shuffle_1000.json", "items_ins_v2_1000.json"]
    assert chosen(100)[:2] == ["items_shuffle.json", "items_ins_v2.json"]


def test_error_requests_a_choice_when_catalogs_are_ambiguous(data: Path) -> None:
    put(data, "items_shuffle_100.json", "items_shuffle_1000.json")
    with pytest.raises(EnvironmentConfigurationError, match="items_shuffle_100 and items_shuffle_1000: say which"):
        chosen()


def test_error_names_the_file_when_it_is_missing(data: Path) -> None:
    put(data, "items_shuffle.json", "items_ins_v2.json")
    with pytest.raises(EnvironmentConfigurationError, match=r"items_shuffle.json and no items_human_ins.json"):
        chosen()


def test_error_names_the_folder_when_it_has_no_catalog(data: Path) -> None:
    with pytest.raises(EnvironmentConfigurationError, match=rf"{data}, which has no items_shuffle.*setup.sh"):
        chosen()


def test_error_names_the_variable_when_it_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    with pytest.raises(EnvironmentConfigurationError, match="WEBSHOP_DATA isn't set"):
        chosen()


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_array_is_read_with_any_chunk_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, chunk: int
) -> None:
    content = [{"a": [1, "]é ,"], "b": {"c": 2.5}}, {}, {"d": 'q"'}]
    (tmp_path / "file").write_text(json.dumps(content, indent=indent, ensure_ascii=False))
    monkeypatch.setattr(jsonstream, "_CHUNK", chunk)
    assert list(jsonstream.read_elements(tmp_path / "file")) == content


@pytest.mark.parametrize("chunk", [1, 1000])
def test_object_is_read_with_any_chunk_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    content: dict[str, Any] = {"B01": {"attributes": ["a", "b"]}, "B02": [{"x": "}"}], "B03": {}}
    (tmp_path / "file").write_text(json.dumps(content))
    monkeypatch.setattr(jsonstream, "_CHUNK", chunk)
    assert dict(jsonstream.read_members(tmp_path / "file")) == content


@pytest.mark.parametrize("text", ["[]", " [ ] \n"])
def test_empty_array_has_no_elements(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    assert list(jsonstream.read_elements(tmp_path / "file")) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[{}", b'[{"a": 1', b"[{},]", b"[{} {}]", b"[nonsense]", b"[\xff]"])
def test_error_names_the_file_when_it_is_not_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(jsonstream.MalformedFileError, match=r"broken\.json"):
        list(jsonstream.read_elements(tmp_path / "broken.json"))


def test_records_are_found_by_number(tmp_path: Path) -> None:
    with RecordsWriter(tmp_path, "r") as writer:
        for record in (b"one", b"", b"three"):
            writer.append(record)
    records = Records(tmp_path, "r")
    assert [records[number] for number in range(len(records))] == [b"one", b"", b"three"]
    with pytest.raises(IndexError):
        records[3]


def test_records_can_be_empty(tmp_path: Path) -> None:
    with RecordsWriter(tmp_path, "r"):
        pass
    assert len(Records(tmp_path, "r")) == 0
