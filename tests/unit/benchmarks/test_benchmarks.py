"""What makes a figure met, short or broken, and how the page tells of it."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from benchmarks.__main__ import page
from benchmarks.gateway import BODY, STREAMED, Estimate, _pairs
from benchmarks.support.fakes import server
from benchmarks.support.figures import Figure, conclude, machine, options
from benchmarks.support.http_load import Load, Turn, carry_out

SLOW = Figure("a step", 350.0, "9 steps", most=300, unit="µs", room=1.5, note="it is slow")


@pytest.mark.parametrize(
    ("measured", "met", "broken"), [(300.0, True, False), (350.0, False, False), (451.0, False, True)]
)
def test_figure_with_an_upper_limit_is_broken_above_it(measured: float, met: bool, broken: bool):
    figure = replace(SLOW, measured=measured)
    assert (figure.met, figure.broken) == (met, broken)


@pytest.mark.parametrize(("measured", "met", "broken"), [(2.0, True, False), (1.5, False, False), (1.3, False, True)])
def test_figure_with_a_lower_limit_is_broken_below_it(measured: float, met: bool, broken: bool):
    figure = Figure("speed", measured, "", least=2, room=1.5)
    assert (figure.met, figure.broken) == (met, broken)


def test_figure_is_never_broken_when_it_has_no_limit():
    assert not Figure("theirs", 0.0, "").broken


def test_benchmarks_exit_with_1_when_a_figure_is_broken(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="1"):
        conclude("x", [replace(SLOW, measured=1000.0)], options("").parse_args([]))
    assert "1,000 µs  ≤ 300 µs    BROKEN" in capsys.readouterr().out


def test_page_lists_shortfalls_with_their_reasons():
    figures = [asdict(SLOW), asdict(replace(SLOW, measured=200.0))]
    document = {"benchmark": "driver", "date": "2026-11-25", "machine": machine(), "figures": figures}
    lines = list(page([document]))
    assert "| a step | ≤ 300 µs | 350 µs (falls short) | 9 steps |" in lines
    assert "| a step | ≤ 300 µs | 200 µs | 9 steps |" in lines
    assert lines.count("Why it falls short: it is slow.") == 1


def test_turns_are_compared_with_their_neighbors_in_either_order():
    order = ["with", "without", "without", "with"]
    turns = [Turn(address, float(number), [0.0], [0.0], 1) for number, address in enumerate(order)]
    assert _pairs(turns) == [(turns[0], turns[1]), (turns[3], turns[2])]


def test_estimate_is_the_median_within_its_interval():
    estimate = Estimate.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert estimate.median == 3.0
    assert 1.0 <= estimate.low < 3.0 < estimate.high <= 100.0
    assert "5 pairs of requests" in estimate.n("requests")


@pytest.mark.parametrize(("body", "tokens", "least"), [(BODY, 12, 0.04), ({**STREAMED, "max_tokens": 5}, 5, 0.15)])
def test_load_client_counts_tokens_and_waits_for_all_of_them(body: dict[str, object], tokens: int, least: float):
    with server(0.05) as base_url:
        addresses = {"one": base_url, "other": base_url}
        turns = carry_out(Load(addresses, "/chat/completions", {}, body, clients=3, requests=2, turns=2))
    assert [turn.address for turn in turns] == ["one", "other", "other", "one"]
    for turn in turns:
        assert turn.tokens == 3 * 2 * tokens
        assert min(turn.whole) >= least
        assert all(first <= whole for first, whole in zip(turn.first, turn.whole, strict=True))
        assert turn.seconds >= max(turn.whole)
