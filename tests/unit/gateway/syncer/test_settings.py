"""The syncer's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillery.core.artifacts import Identity
from distillery_gateway.syncer.settings import Settings

REQUIRED = {"DISTILLERY_STORE_URI": "s3://bucket/team/bot", "DISTILLERY_IDENTITY": f"uid-{'a' * 64}"}


def test_syncer_settings_have_defaults_for_what_is_not_required():
    settings = Settings.from_environment(REQUIRED)
    assert settings == Settings(store_uri="s3://bucket/team/bot", identity=Identity("uid", "a" * 64))
    assert (settings.port, settings.cache, settings.adapters) == (8003, Path("/artifacts"), Path("/adapters"))


def test_syncer_settings_name_every_required_variable_when_it_is_not_set():
    with pytest.raises(ValueError) as caught:
        Settings.from_environment({})
    assert str(caught.value).splitlines() == [
        "DISTILLERY_STORE_URI is not set: name the URI of the artifacts",
        "DISTILLERY_IDENTITY is not set: name the run as UID-DIGEST",
    ]


def test_syncer_settings_name_the_identity_when_it_is_none():
    with pytest.raises(ValueError, match=r"DISTILLERY_IDENTITY is 'bot': .*write UID-DIGEST"):
        Settings.from_environment({**REQUIRED, "DISTILLERY_IDENTITY": "bot"})
