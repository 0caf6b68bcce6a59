"""The history of what was served, as the operator passes it to a Job."""

from __future__ import annotations

from distillery.core.contracts.serving_history import ServingEntry, from_json, to_json

DOCUMENT = (
    '[{"student": "1abcdef01234", "round": 1, "reason": "Better.", "time": "2026-11-02T12:00:00Z"}, '
    '{"student": "base", "round": 0, "reason": "", "time": "2026-11-01T12:00:00Z"}]'
)
ENTRIES = [
    ServingEntry("1abcdef01234", 1, "Better.", "2026-11-02T12:00:00Z"),
    ServingEntry("base", 0, "", "2026-11-01T12:00:00Z"),
]


def test_history_keeps_its_form_between_releases():
    assert to_json(ENTRIES) == DOCUMENT
    assert from_json(DOCUMENT) == ENTRIES


def test_history_comes_back_when_a_reason_has_any_text():
    entries = [ServingEntry("base", 0, 'é "quoted"\n\0', "2026-11-01T12:00:00Z")]
    assert from_json(to_json(entries)) == entries


def test_entry_has_no_reason_when_the_status_has_none():
    entry = {"student": "base", "round": 0, "time": "2026-11-01T12:00:00Z"}
    assert ServingEntry.from_status(entry).reason == ""
