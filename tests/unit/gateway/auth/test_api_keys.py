"""Keys are kept as digests, and change while the gateway runs."""

from __future__ import annotations

import json
import runpy
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from distillery_gateway.auth import api_keys
from distillery_gateway.auth.api_keys import ApiKeyStore, Key, digest_of
from distillery_gateway.auth.rate_limits import Limits, RateLimiter
from distillery_gateway.errors import ApiError
from tests.unit.gateway.conftest import Serve


def test_new_key_is_found_by_its_digest(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    api_keys.main()
    key, digest = (line.split()[1] for line in capsys.readouterr().out.splitlines())
    (tmp_path / "me").write_text(f"{digest}\n")
    found = ApiKeyStore(tmp_path).find(f"Bearer {key}")
    assert found
    assert found.name == "me"
    assert len(key) > 40


@pytest.mark.parametrize(("name", "lines"), [("__main__", 2), ("imported", 0)])
def test_key_is_made_only_when_the_module_is_the_program(name: str, lines: int, capsys: pytest.CaptureFixture[str]):
    runpy.run_path(api_keys.__file__, run_name=name)
    assert len(capsys.readouterr().out.splitlines()) == lines


@pytest.mark.parametrize("header", ["first", "Basic first", "", "Bearer", "Bearer "])
def test_no_key_is_found_without_the_scheme_or_the_token(tmp_path: Path, header: str):
    (tmp_path / "a").write_text(digest_of("first"))
    (tmp_path / "empty").write_text(digest_of(""))
    assert ApiKeyStore(tmp_path).find(header) is None


def test_key_is_found_whatever_the_case_of_the_scheme(tmp_path: Path):
    (tmp_path / "a").write_text(digest_of("first"))
    assert ApiKeyStore(tmp_path).find("bEARER first")


def test_key_has_the_models_and_limits_of_its_file(tmp_path: Path):
    limits = {"models": ["bot"], "requestsPerMinute": 60, "maxConcurrentRequests": 5}
    (tmp_path / "a").write_text(json.dumps({"sha256": digest_of("first"), **limits}))
    assert ApiKeyStore(tmp_path).find("Bearer first") == Key("a", digest_of("first"), frozenset({"bot"}), 60, 5)


def test_hidden_files_and_folders_are_no_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / ".a").write_text(digest_of("first"))
    (tmp_path / "folder").mkdir()
    assert ApiKeyStore(tmp_path).find("Bearer first") is None
    assert caplog.text == ""


def test_nothing_changes_when_there_is_no_folder(tmp_path: Path):
    assert ApiKeyStore(None).refresh() is False
    assert ApiKeyStore(tmp_path / "missing").refresh() is False


def test_gateway_is_open_when_it_has_no_folder():
    assert ApiKeyStore(None).open is True


def test_keys_are_rotated_and_revoked_without_a_restart(tmp_path: Path):
    (tmp_path / "a").write_text(digest_of("first"))
    ring = ApiKeyStore(tmp_path)
    assert ring.refresh() is False
    (tmp_path / "a").write_text(digest_of("second"))
    assert ring.refresh()
    assert ring.find("Bearer first") is None
    assert ring.find("Bearer second")
    (tmp_path / "a").unlink()
    assert ring.refresh()
    assert ring.find("Bearer second") is None
    assert not ring.open


@pytest.mark.parametrize(
    "text", ["", "secret", "{", "[]", '{"sha256": "x"}', json.dumps({"sha256": "0" * 64, "modles": []})]
)
def test_key_file_is_logged_and_grants_no_access_when_it_is_invalid(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "odd").write_text(text)
    (tmp_path / "good").write_text(digest_of("good"))
    ring = ApiKeyStore(tmp_path)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "key odd " in record.getMessage()
    assert ring.find("Bearer good")
    assert ring.find(f"Bearer {text}") is None


@pytest.mark.parametrize("limit", ["requestsPerMinute", "maxConcurrentRequests"])
def test_key_is_blocked_when_a_limit_is_0(tmp_path: Path, limit: str):
    (tmp_path / "blocked").write_text(json.dumps({"sha256": digest_of("blocked"), limit: 0}))
    key = ApiKeyStore(tmp_path).find("Bearer blocked")
    assert key
    with pytest.raises(ApiError) as refused, RateLimiter(Limits()).admit(key):
        pass
    assert refused.value.status == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"maxConcurrentRequests": "5"}, {"maxConcurrentRequests": 5.0}, {"maxConcurrentRequests": True},
        {"maxConcurrentRequests": -1},
        {"requestsPerMinute": "60"}, {"requestsPerMinute": -1}, {"models": "bot"}, {"models": [1]},
        {"expires": "2027-01-31"}, {"expires": "2027-01-31T00:00:00"}, {"expires": "2027-13-31T00:00:00Z"},
        {"expires": 1801353600}, {"expires": None}, {"expires": ""}, {"expires": "never"},
    ],
)  # fmt: skip
def test_key_is_logged_and_grants_no_access_when_a_field_is_wrong(
    tmp_path: Path, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    (tmp_path / "odd").write_text(json.dumps({"sha256": digest_of("odd"), **wrong}))
    assert ApiKeyStore(tmp_path).find("Bearer odd") is None
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "key odd " in record.getMessage()
    assert next(iter(wrong)) in record.getMessage()


@pytest.mark.parametrize("expires", ["2027-01-31T12:00:00Z", "2027-01-31T13:00:00.000+01:00"])
def test_key_expires_at_the_time_that_it_names(tmp_path: Path, expires: str):
    (tmp_path / "brief").write_text(json.dumps({"sha256": digest_of("brief"), "expires": expires}))
    key, noon = ApiKeyStore(tmp_path).find("Bearer brief"), datetime(2027, 1, 31, 12, tzinfo=UTC)
    assert key
    assert [key.is_expired(noon - timedelta(seconds=1)), key.is_expired(noon)] == [False, True]


@pytest.mark.parametrize(("year", "status"), [(2000, 401), (9999, 200)])
async def test_gateway_refuses_a_key_with_its_expiry_when_it_expired(
    serve: Serve, tmp_path: Path, year: int, status: int
):
    (tmp_path / "brief").write_text(json.dumps({"sha256": digest_of("brief"), "expires": f"{year}-01-01T00:00:00Z"}))
    served = await serve(keys=tmp_path)
    answered, body = await served.post(
        {"model": "bot", "messages": [{"role": "user", "content": "go"}]}, authorization="Bearer brief"
    )
    assert answered == status
    if status == 401:
        assert body["error"]["code"] == "expired_api_key"
        assert body["error"]["message"] == "This API key expired at 2000-01-01 00:00:00+00:00. Ask for a new one."
        assert served.vllm.requests == []


def mount(folder: Path, **keys: str) -> None:
    """As the kubelet does: links to files in a folder of a new name, which a link that moves points to."""
    version = folder / f"..{time.monotonic_ns()}"
    version.mkdir()
    for name, digest in keys.items():
        (version / name).write_text(digest)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(version.name)
    (folder / "..new").rename(folder / "..data")


def test_mounted_keys_are_read_only_when_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mount(tmp_path, a=digest_of("first"), b=digest_of("b"))
    ring, read = ApiKeyStore(tmp_path), list[Path]()
    read_text = Path.read_text

    def count(path: Path, *args: Any, **more: Any) -> str:
        read.append(path)
        return read_text(path, *args, **more)

    monkeypatch.setattr(Path, "read_text", count)
    for _ in range(10):
        assert ring.refresh() is False
    assert read == []
    mount(tmp_path, a=digest_of("second"), b=digest_of("b"))
    assert ring.refresh()
    assert len(read) == 2
    assert ring.find("Bearer first") is None
    assert ring.find("Bearer second")
