"""What makes a figure met, short or broken, and how the page tells of it."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from benchmarks.__main__ import page
from benchmarks.figures import Figure, conclude, machine, options

SLOW = Figure("a step", 350.0, "9 steps", most=300, unit="µs", room=1.5, note="it is slow")


@pytest.mark.parametrize(
    ("measured", "met", "broken"), [(300.0, True, False), (350.0, False, False), (451.0, False, True)]
)
def test_a_figure_that_wants_little(measured: float, met: bool, broken: bool):
    figure = replace(SLOW, measured=measured)
    assert (figure.met, figure.broken) == (met, broken)


@pytest.mark.parametrize(("measured", "met", "broken"), [(2.0, True, False), (1.5, False, False), (1.3, False, True)])
def test_a_figure_that_wants_much(measured: float, met: bool, broken: bool):
    figure = Figure("speed", measured, "", least=2, room=1.5)
    assert (figure.met, figure.broken) == (met, broken)


def test_a_figure_that_only_stands_beside_another_is_never_broken():
    assert not Figure("theirs", 0.0, "").broken


def test_a_broken_figure_ends_with_1(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="1"):
        conclude("x", [replace(SLOW, measured=1000.0)], options("").parse_args([]))
    assert "1,000 µs  ≤ 300 µs    BROKEN" in capsys.readouterr().out


def test_the_page_tells_what_falls_short_and_why():
    figures = [asdict(SLOW), asdict(replace(SLOW, measured=200.0))]
    document = {"benchmark": "driver", "date": "2026-11-25", "machine": machine(), "figures": figures}
    lines = list(page([document]))
    assert "| a step | ≤ 300 µs | 350 µs (falls short) | 9 steps |" in lines
    assert "| a step | ≤ 300 µs | 200 µs | 9 steps |" in lines
    assert lines.count("Why it falls short: it is slow.") == 1
