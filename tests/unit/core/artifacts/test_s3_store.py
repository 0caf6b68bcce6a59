"""What S3 says decides what is done: absent is absent, and refused or away is neither."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from distillery.core.artifacts import ArtifactDamaged, ArtifactError, ArtifactNotFound, StoreUnavailable
from distillery.core.artifacts import s3 as module
from distillery.core.artifacts.s3 import S3Store
from tests.fakes import s3_server

ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>no</Message></Error>"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    s3_server.give_keys(monkeypatch)
    monkeypatch.setattr(module, "_ATTEMPTS", 1)


@contextmanager
def answering(status: int, code: bytes) -> Generator[tuple[str, list[str]]]:
    """A server that gives every request one answer; its URL, and the methods that it was asked with."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(self.command)
            body = ERROR % code
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = answer

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (404, b"NoSuchKey", ArtifactNotFound),
        (404, b"NoSuchBucket", StoreUnavailable),
        (403, b"AccessDenied", StoreUnavailable),
        (503, b"SlowDown", StoreUnavailable),
        (500, b"InternalError", StoreUnavailable),
    ],
)
def test_s3_store_reports_an_absent_artifact_when_the_key_is_missing(
    tmp_path: Path, status: int, code: bytes, error: type[Exception]
):
    with answering(status, code) as (url, _):
        store = S3Store("runs", "x", cache=tmp_path, endpoint_url=url)
        with pytest.raises(error) as raised:
            store.manifest("prepare")
    assert type(raised.value) is error
    assert ("s3:ListBucket" in str(raised.value)) == (status == 403)


def test_s3_store_is_unavailable_when_the_server_is_away(tmp_path: Path):
    with answering(200, b"") as (url, _):
        pass
    with pytest.raises(StoreUnavailable, match="prepare"):
        S3Store("runs", "x", cache=tmp_path, endpoint_url=url).open("prepare")


def test_s3_store_puts_nothing_when_reading_is_refused(tmp_path: Path):
    with answering(403, b"AccessDenied") as (url, asked):
        store = S3Store("runs", "x", cache=tmp_path, endpoint_url=url)
        draft = store.draft("prepare")
        (draft / "tasks.json").write_text("[]")
        with pytest.raises(StoreUnavailable):
            store.publish("prepare", draft, {})
    assert asked == ["GET"]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Of a real S3 server."""
    with s3_server.serving(tmp_path_factory.mktemp("s3") / "data") as url:
        yield url


def test_s3_stores_open_and_publish_when_several_workers_share_a_cache(url: str, tmp_path: Path):
    def worker(number: int) -> None:
        store = S3Store(s3_server.BUCKET, "side", cache=tmp_path, endpoint_url=url)
        draft = store.draft("r1-rollout")
        (draft / "who").write_text(str(number))
        try:
            published.append(store.publish("r1-rollout", draft, {"worker": number})["worker"])
            opened.append((store.open("r1-rollout")[0] / "who").read_text())
        except Exception as error:
            opened.append(repr(error))

    opened, published = list[str](), list[int]()
    threads = [threading.Thread(target=worker, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [str(published[0])] * 4
    assert published == [published[0]] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["r1-rollout"]


def test_open_keeps_the_folder_when_another_worker_was_quicker(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    publisher, late, quick = (
        S3Store(s3_server.BUCKET, "meanwhile", cache=tmp_path / cache, endpoint_url=url)
        for cache in ("elsewhere", "shared", "shared")
    )
    draft = publisher.draft("r1-rollout")
    (draft / "who").write_text("me")
    publisher.publish("r1-rollout", draft, {})
    download, brought = late._download, list[int]()

    def download_late(*arguments: Any) -> None:
        download(*arguments)
        brought.append(quick.open("r1-rollout")[0].stat().st_ino)

    monkeypatch.setattr(late, "_download", download_late)
    assert [late.open("r1-rollout")[0].stat().st_ino] == brought
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["r1-rollout"]


def test_open_reads_an_artifact_when_its_keys_hold_no_digests(url: str, tmp_path: Path):
    """As an earlier version put them."""
    store = S3Store(s3_server.BUCKET, "former", cache=tmp_path, endpoint_url=url)
    digest = hashlib.sha256(b"[]").hexdigest()
    manifest = {"stage": "prepare", "files": {"tasks.json": {"bytes": 2, "sha256": digest}}}
    for file, body in (("tasks.json", b"[]"), ("result.json", json.dumps(manifest).encode())):
        store._client.put_object(Bucket=s3_server.BUCKET, Key=f"former/prepare/{file}", Body=body)
    folder, opened = store.open("prepare")
    assert ((folder / "tasks.json").read_text(), opened) == ("[]", manifest)


def test_publish_uploads_again_when_an_artifact_lacks_a_file(url: str, tmp_path: Path):
    def published(cache: str) -> S3Store:
        store = S3Store(s3_server.BUCKET, "lacks", cache=tmp_path / cache, endpoint_url=url)
        draft = store.draft("prepare")
        (draft / "tasks.json").write_text("[]")
        store.publish("prepare", draft, {})
        return store

    store = published("one")
    (key,) = store._keys("prepare", store.manifest("prepare")).values()
    store._client.delete_object(Bucket=s3_server.BUCKET, Key=key)
    with pytest.raises(ArtifactDamaged):
        S3Store(s3_server.BUCKET, "lacks", cache=tmp_path / "two", endpoint_url=url).open("prepare")
    store = published("three")
    assert (store.open("prepare")[0] / "tasks.json").read_text() == "[]"


def test_restore_brings_a_checkpoint_when_a_pod_moves_to_another_node(url: str, tmp_path: Path):
    def pod(name: str) -> tuple[S3Store, Path]:
        cache = tmp_path / name
        return S3Store(s3_server.BUCKET, "kept", cache=cache, endpoint_url=url), cache / "work" / "checkpoint"

    store, work = pod("first")
    store.restore("r1-train", work)
    assert not work.exists()
    work.mkdir(parents=True)
    for step in (b"step 1", b"step 2"):
        (work / "state.pt").write_bytes(step)
        store.keep("r1-train", work)
    assert [path.name for path in work.iterdir()] == ["state.pt"]

    store, work = pod("second")
    store.restore("r1-train", work)
    assert [(path.name, path.read_bytes()) for path in work.iterdir()] == [("state.pt", b"step 2")]
    (work / "state.pt").write_bytes(b"step 3")
    store.restore("r1-train", work)  # what is here is newer
    assert (work / "state.pt").read_bytes() == b"step 3"
    store.forget("r1-train")

    store, work = pod("third")
    store.restore("r1-train", work)
    assert not work.exists()


def test_store_names_the_settings_of_aws_when_the_profile_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "nope")
    with pytest.raises(ArtifactError, match=r"AWS_PROFILE.*nope"):
        S3Store("runs", "p", cache=tmp_path)
