"""Redaction removes texts in the form of a secret, and keeps those of games and shops."""

from __future__ import annotations

import re
import time

import pytest

from distillery_gateway.capture.redaction import _DIGITS, _OWN, REDACTED, Redactor

BEGINNINGS = [
    "a", "a.", "a@", "a@a", "a@a.", "a" * 63 + "@" + "b" * 63 + "-", "bearer ", "sk-", "sk-a", "AKIA", "AKIA-", "ghp_",
    "github_pat_", "xoxb-", "AIza", "eyJ", "eyJ-", "eyJaaaaaaaa-", "eyJaaaaaaaa.", "0", "a-", "a1", "1 ", "1-", "+1", 
    "(1", "1.", "1()", "/", " ", "_", "=",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("write to ann.o-hara+x@mail.example.org now", f"write to {REDACTED} now"),
        ("Authorization: Bearer abc.DEF-123_x", f"Authorization: {REDACTED}"),
        ("my key is sk-abcDEF123456 ok", f"my key is {REDACTED} ok"),
        ("dk-4GzUq9LkX_0-a", REDACTED),
        ("AKIAIOSFODNN7EXAMPLE!", f"{REDACTED}!"),
        ("ghp_abcdefghijklmnop1234", REDACTED),
        ("xoxb-1234567890-abc", REDACTED),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.abc-_1", REDACTED),
        ("0123456789abcdef0123456789abcdef", REDACTED),
        ("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo5OTk5==", REDACTED),
        ("card 4111 1111 1111 1111, thanks", f"card {REDACTED}, thanks"),
        ("card 4111111111111111", f"card {REDACTED}"),
        ("call +44 20 7946 0958 or (555) 123-4567 x", f"call {REDACTED} or {REDACTED} x"),
        ("call 0151-23456789.", f"call {REDACTED}."),
    ],
)
def test_redaction_removes_texts_in_the_form_of_a_secret(text: str, left: str):
    assert Redactor()(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "You open the drawer 12. In it, you see a mug 3, a book 1.\n> go to desk 7\nNothing happens.",
        "WebShop [SEP] Instruction: [SEP] i need a red mug, and price lower than 20.00 dollars [SEP] Search",
        "B09KP78G37 [SEP] Page 1 (Total results: 50) [SEP] $129.95 to $1,299.95",
        "on 2026-11-26 it was 10:15; 3, 4 and 5",
        "--------------------------------------------",
        "a-very-long-name-of-a-thing-that-has-no-number",
    ],
)
def test_redaction_keeps_texts_of_games_and_shops(text: str):
    assert Redactor()(text) == text


def test_patterns_of_the_run_come_first_and_see_single_lines():
    redact = Redactor([r"ORD-\d+", r"^Name: .*$"])
    assert redact("Name: Ann O'Hara\nORD-4111111111111111\n") == f"{REDACTED}\n{REDACTED}\n"


def test_redaction_keeps_all_pieces_of_a_long_text():
    text = " ".join(f"word{number}" for number in range(5_000)) + "\n" + "z" * 9_000
    assert Redactor()(text) == text
    secret = "x " * 1_995 + "ann@example.org " + "y " * 2_000
    assert "example" not in Redactor()(secret)


def test_patterns_match_the_end_of_a_line_with_any_line_break():
    assert Redactor(["b$"])("ab\nab\r\nab\x85ab") == f"a{REDACTED}\na{REDACTED}\r\na{REDACTED}\x85a{REDACTED}"


def test_redaction_replaces_half_a_character():
    assert Redactor(["ORD-[0-9]+"])("\ud800 ORD-1\n") == f"? {REDACTED}\n"


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("expression", [_OWN, _DIGITS], ids=["own", "digits"])
def test_redaction_takes_linear_time_when_matches_only_begin(expression: re.Pattern[str], beginning: str):
    def seconds(length: int) -> float:
        text, taken = (beginning * length)[:length], list[float]()
        for _ in range(5):
            started = time.thread_time()
            expression.sub("", text)
            taken.append(time.thread_time() - started)
        return min(taken)

    assert seconds(4_000) < 16 * 3 * seconds(250) + 0.001, "16 times the length"


@pytest.mark.parametrize(
    ("expression", "text"),
    [(r"(\w|\w\w)+!", "a" * 32), (r"\w+\s*=\s*\w*\s*\w+;", "a" * 600 + "=" + "a" * 1_200), ("(a+)+$", "a" * 27 + "b")],
)
def test_redaction_patterns_take_no_exponential_time(expression: str, text: str):
    started = time.perf_counter()
    assert Redactor([expression])(text) == text
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize("text", ["a" * 500_000, "a." * 250_000, "1 " * 250_000, "@" * 500_000, "eyJ" * 160_000])
def test_redaction_of_any_text_is_fast(text: str):
    started = time.perf_counter()
    Redactor([r"(\d+)-(\d+)"])(text)
    assert time.perf_counter() - started < 10.0
