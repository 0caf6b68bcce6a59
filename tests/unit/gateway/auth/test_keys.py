"""Keys are kept as digests, and change while the gateway runs."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from distillery_gateway.auth import api_keys
from distillery_gateway.auth.api_keys import Key, KeyRing, digest_of
from distillery_gateway.auth.rate_limits import Limits, Meter
from distillery_gateway.errors import Refusal
from tests.unit.gateway.conftest import Serve


def test_a_key_that_is_made_is_found_by_its_digest(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    api_keys.main()
    key, digest = (line.split()[1] for line in capsys.readouterr().out.splitlines())
    (tmp_path / "me").write_text(f"{digest}\n")
    found = KeyRing(tmp_path).find(f"Bearer {key}")
    assert found
    assert found.name == "me"
    assert len(key) > 40


def test_keys_are_rotated_and_revoked_without_a_restart(tmp_path: Path):
    (tmp_path / "a").write_text(digest_of("first"))
    ring = KeyRing(tmp_path)
    assert not ring.refresh()
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
def test_what_is_no_key_is_told_of_and_opens_nothing(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture):
    (tmp_path / "odd").write_text(text)
    (tmp_path / "good").write_text(digest_of("good"))
    ring = KeyRing(tmp_path)
    assert "the key odd is not usable" in caplog.text
    assert ring.find("Bearer good")
    assert ring.find(f"Bearer {text}") is None


def test_a_rate_fills_up_again_with_time():
    now = [0.0]
    meter = Meter(Limits(), clock=lambda: now[0])
    key = Key("k", "", requests_per_minute=60)

    def ask() -> bool:
        try:
            with meter.admitted(key):
                return True
        except Refusal as refusal:
            refused.append(refusal)
            return False

    refused: list[Refusal] = []
    assert [ask() for _ in range(61)].count(True) == 60
    now[0] += 2.0
    assert [ask() for _ in range(4)] == [True, True, False, False]
    assert {refusal.status for refusal in refused} == {429}
    assert all(int(refusal.headers["Retry-After"]) >= 1 for refusal in refused)


def test_one_keys_requests_are_not_anothers():
    meter = Meter(Limits(max_concurrent_requests=1))
    with (
        meter.admitted(Key("a", "")),
        meter.admitted(Key("b", "")),
        pytest.raises(Refusal),
        meter.admitted(Key("a", "")),
    ):
        pass
    with meter.admitted(Key("a", "")):
        pass


@pytest.mark.parametrize("limit", ["requestsPerMinute", "maxConcurrentRequests"])
def test_a_limit_of_0_blocks_a_key(tmp_path: Path, limit: str):
    (tmp_path / "blocked").write_text(json.dumps({"sha256": digest_of("blocked"), limit: 0}))
    key = KeyRing(tmp_path).find("Bearer blocked")
    assert key
    with pytest.raises(Refusal) as refused, Meter(Limits()).admitted(key):
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
def test_a_key_with_a_wrong_limit_is_told_of_and_opens_nothing(
    tmp_path: Path, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    (tmp_path / "odd").write_text(json.dumps({"sha256": digest_of("odd"), **wrong}))
    assert KeyRing(tmp_path).find("Bearer odd") is None
    assert f"the key odd is not usable: {next(iter(wrong))}" in caplog.text


@pytest.mark.parametrize("expires", ["2027-01-31T12:00:00Z", "2027-01-31T13:00:00.000+01:00"])
def test_key_expires_at_the_time_that_it_names(tmp_path: Path, expires: str):
    (tmp_path / "brief").write_text(json.dumps({"sha256": digest_of("brief"), "expires": expires}))
    key, noon = KeyRing(tmp_path).find("Bearer brief"), datetime(2027, 1, 31, 12, tzinfo=UTC)
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
    ring, read = KeyRing(tmp_path), list[Path]()
    read_text = Path.read_text

    def count(path: Path, *args: Any, **more: Any) -> str:
        read.append(path)
        return read_text(path, *args, **more)

    monkeypatch.setattr(Path, "read_text", count)
    for _ in range(10):
        assert not ring.refresh()
    assert read == []
    mount(tmp_path, a=digest_of("second"), b=digest_of("b"))
    assert ring.refresh()
    assert len(read) == 2
    assert ring.find("Bearer first") is None
    assert ring.find("Bearer second")
