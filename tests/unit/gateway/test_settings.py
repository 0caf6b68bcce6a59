"""The gateway's settings, from environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillery_gateway.settings import Settings


def test_settings_have_defaults_when_no_variable_is_set():
    assert Settings.from_environment({}) == Settings()


def test_settings_are_read_from_variables():
    variables = {
        "DISTILLERY_UPSTREAM_URL": "http://127.0.0.1:9000/",
        "DISTILLERY_PORT": "80",
        "DISTILLERY_API_KEYS_DIR": "/keys",
        "DISTILLERY_DENIED_PARAMETERS": "seed,n",
        "DISTILLERY_LIMITS": '{"maxTokens": 64}',
        "DISTILLERY_CAPTURE_DIR": "/capture",
        "DISTILLERY_REDACT_PATTERNS": '["ORD-[0-9]+"]',
        "DISTILLERY_PER_KEY_LIMITS": "false",
    }
    settings = Settings.from_environment(variables)
    assert (settings.upstream, settings.port, settings.api_keys) == ("http://127.0.0.1:9000", 80, Path("/keys"))
    assert settings.denied == {"seed", "n"}
    assert settings.limits.max_tokens == 64
    assert (settings.per_key_limits, Settings().per_key_limits) == (False, True)
    assert (settings.capture, settings.redact) == (Path("/capture"), ("ORD-[0-9]+",))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"DISTILLERY_PORT": "eighty"}, "DISTILLERY_PORT is 'eighty': write a whole number"),
        ({"DISTILLERY_LIMITS": '{"maxToken": 64}'}, "DISTILLERY_LIMITS is .*: unknown maxToken; known: maxBodyBytes"),
        ({"DISTILLERY_REDACT_PATTERNS": '["(x"]'}, "DISTILLERY_REDACT_PATTERNS is .*: missing"),
        ({"DISTILLERY_REDACT_PATTERNS": "[1]"}, "DISTILLERY_REDACT_PATTERNS is .*: write a JSON list of strings"),
    ],
)
def test_settings_name_the_variable_that_is_wrong(variables: dict[str, str], expected: str):
    with pytest.raises(ValueError, match=expected):
        Settings.from_environment(variables)
