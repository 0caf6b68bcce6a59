"""Artifacts belong to the run that wrote them, in a folder and in S3 alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distillery.core.artifacts import ArtifactError, ArtifactNotFound, FolderStore, Identity, Store, store_at
from tests.fakes import s3_server

FIRST = Identity("11111111-2222-3333-4444-555555555555", "a" * 64)
SECOND = replace(FIRST, uid="99999999-2222-3333-4444-555555555555")
RESEEDED = replace(FIRST, digest="b" * 64)

Opened = Callable[..., Store]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The URL of a real S3 server."""
    with s3_server.serving(tmp_path_factory.mktemp("s3") / "data") as url, pytest.MonkeyPatch.context() as patch:
        s3_server.give_keys(patch)
        yield url


@pytest.fixture(params=["folder", "s3"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens the store of a run of the name ``team/bot``; each time as another machine would, without copies."""
    url = request.getfixturevalue("s3") if request.param == "s3" else None
    place = f"s3://{s3_server.BUCKET}/{tmp_path.name}" if url else (tmp_path / "shared").as_uri()
    number = iter(range(100))

    def open_store(run: Identity, recorded: Mapping[str, Any] | None = None) -> Store:
        cache = tmp_path / f"cache-{next(number)}"
        return store_at(f"{place}/team/bot", run, cache=cache, endpoint_url=url, recorded=recorded)

    return open_store


def published(store: Store, content: str, **result: Any) -> dict[str, Any]:
    draft = store.draft("r1-promote")
    (draft / "verdict").write_text(content)
    return store.publish("r1-promote", draft, result)


def published_before_identities(store: Store, content: str, **result: Any) -> dict[str, Any]:
    """As an earlier version did: without the run's key, and without its name."""
    former: Store = store._former  # type: ignore[attr-defined]
    return published(former, content, **result)


def verdict(store: Store, **asked: str) -> str:
    return (store.open("r1-promote", **asked)[0] / "verdict").read_text()


@pytest.mark.parametrize("other", [SECOND, RESEEDED], ids=["another-uid", "another-digest"])
def test_stores_stay_apart_when_runs_have_one_name(opened: Opened, other: Identity):
    first = published(opened(FIRST), "run 1: +40 points")
    second = published(opened(other), "run 2: -3 points")
    assert (first["run"], second["run"]) == (str(FIRST), str(other))
    assert (verdict(opened(FIRST)), verdict(opened(other))) == ("run 1: +40 points", "run 2: -3 points")


def test_publish_keeps_the_first_result_when_the_run_publishes_again(opened: Opened):
    first = published(opened(FIRST), "first")
    assert published(opened(FIRST), "second") == first
    assert verdict(opened(FIRST)) == "first"


def test_open_refuses_an_artifact_when_another_run_wrote_it(tmp_path: Path):
    store = store_at(tmp_path.as_uri(), FIRST, cache=tmp_path)
    published(store, "mine")
    path = tmp_path / FIRST.key / "r1-promote" / "result.json"
    path.write_text(path.read_text().replace(str(FIRST), str(SECOND)))
    before = path.read_text()
    for attempt in (lambda: published(store, "mine"), lambda: verdict(store)):
        with pytest.raises(ArtifactError, match=str(SECOND)):
            attempt()
    assert path.read_text() == before


def test_open_reads_the_old_form_when_records_hold_its_manifest(opened: Opened):
    written = json.loads(json.dumps(published_before_identities(opened(FIRST), "old", metric=0.1)))
    assert verdict(opened(FIRST, recorded={"r1-promote": written})) == "old"


@pytest.mark.parametrize("recorded", [{}, {"r1-promote": {"metric": 0.1}}])
def test_open_refuses_the_old_form_when_nothing_proves_it(opened: Opened, recorded: dict[str, Any]):
    published_before_identities(opened(FIRST), "old", metric=0.1)
    with pytest.raises(ArtifactNotFound):
        opened(FIRST, recorded).open("r1-promote")


def test_publish_leaves_the_old_form_when_it_exists(opened: Opened):
    written = published_before_identities(opened(FIRST), "old", metric=0.1)
    assert published(opened(FIRST), "new")["run"] == str(FIRST)
    assert verdict(opened(FIRST)) == "new"
    assert verdict(opened(SECOND, recorded={"r1-promote": written})) == "old"


def test_open_reads_the_old_form_when_it_holds_the_adapter_asked_for(opened: Opened):
    published_before_identities(opened(FIRST), "old", student="d" * 64)
    assert verdict(opened(FIRST), student="d" * 64) == "old"
    with pytest.raises(ArtifactNotFound):
        verdict(opened(FIRST), student="e" * 64)


def test_open_refuses_an_artifact_when_it_holds_another_adapter(opened: Opened):
    published(opened(FIRST), "new", student="d" * 64)
    with pytest.raises(ArtifactError, match="dddddddddddd, not eeeeeeeeeeee"):
        verdict(opened(FIRST), student="e" * 64)


def test_open_refuses_a_link_to_the_old_form_when_nothing_proves_it(tmp_path: Path):
    """As ``distillery.serving.fetch`` leaves one for servers."""
    published(FolderStore(tmp_path), "old", student="d" * 64)
    (tmp_path / FIRST.key).mkdir()
    (tmp_path / FIRST.key / "r1-promote").symlink_to(tmp_path / "r1-promote")
    store = store_at(tmp_path.as_uri(), FIRST, cache=tmp_path)
    assert verdict(store, student="d" * 64) == "old"
    with pytest.raises(ArtifactNotFound):
        verdict(store)


def test_identity_parses_its_own_text():
    assert Identity.parse(str(FIRST)) == FIRST
    assert FIRST.key == "11111111-aaaaaaaaaaaa"
    with pytest.raises(ValueError, match="UID-DIGEST"):
        Identity.parse("11111111")


def test_place_is_a_path_or_a_uri(opened: Opened, tmp_path: Path):
    store = opened(FIRST)
    with pytest.raises(ArtifactNotFound):
        store.place("r1-promote")
    published(store, "won")
    place = store.place("r1-promote")
    assert place.endswith(f"/team/bot/{FIRST.key}/r1-promote")
    assert place.startswith((f"s3://{s3_server.BUCKET}/", str(tmp_path)))
