"""Numbers for a person: on the page, in the table, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

_DASH = "–"


def format_percent(value: float | None) -> str:
    """Format a fraction as a percentage with one decimal; a dash for None."""
    return _DASH if value is None else f"{100 * value:.1f}"


def format_points(value: float | None) -> str:
    """Format a difference of fractions in points, with its sign; a dash for None."""
    return _DASH if value is None else f"{100 * value:+.1f}".replace("-", "−")


def format_p_value(value: float) -> str:
    """Format a p-value with two significant digits, never as 0."""
    return "< 1e-15" if value < 1e-15 else f"{value:.2g}"


def format_duration(seconds: float | None) -> str:
    """Format seconds in a person's units."""
    if seconds is None:
        return _DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def format_clock(seconds: float) -> str:
    """Format seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_time(text: str) -> str:
    """Format an ISO timestamp as ``2026-11-29 20:14``, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def format_age(seconds: float) -> str:
    """Format seconds as kubectl writes an age: 45s, 12m, 5h, 3d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def format_count(value: float | None) -> str:
    """Format a number with its thousands apart; a dash for None."""
    return _DASH if value is None else f"{value:,.0f}"


def format_short(value: float) -> str:
    """Format a number in three digits or fewer: 812, 1.4k, 23M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{unit}" if value < 10 * size else f"{value / size:.0f}{unit}"
    return f"{value:.0f}"


def compute_cached_share(tokens: Mapping[str, int | None]) -> float | None:
    """Return the share of prompt tokens that came from servers' prefix caches; None if that is not known."""
    cached, prompt = tokens["cached"], tokens["prompt"]
    return None if cached is None or not prompt else cached / prompt
