"""The README's chart, docs/results.svg, from the table of docs/results.md; ``--check`` fails if it is stale."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
TABLE, CHART = DOCS / "results.md", DOCS / "results.svg"
HEADING = "## ALFWorld's own games"

LABELS = {
    "baseline": "base model",
    "sft": "student of its own successes",
    "placebo-distilled": "student of a randomly hinted teacher",
    "distilled": "Distillery's student",
    "rag": "base model with hints in its prompt",
}
"""The arms that are drawn, in this order, as a reader who does not know the arms' names reads them."""

WIDTH, ROW, LEFT, RIGHT, TOP, BOTTOM = 760, 34, 300, 50, 40, 34
STYLE = """
 text{fill:#1c2430}.s{fill:#566170;font-size:12.5px}.bar{fill:#a8b4c3}.own{fill:#1a7f4b}
 .line{stroke:#1c2430;stroke-width:1.6}.grid{stroke:#d8dee6;stroke-width:1}
 @media (prefers-color-scheme:dark){text{fill:#e6ebf2}.s{fill:#a8b4c3}.bar{fill:#566170}.own{fill:#2f9e66}
 .line{stroke:#e6ebf2}.grid{stroke:#2c3643}}
"""


@dataclass(frozen=True)
class Arm:
    """A row of the table, in percent.

    Attributes:
        name: of the arm.
        n: the number of held-out games.
        success: the share that succeeded.
        low: the lower end of its 95 % interval.
        high: the upper end.
    """

    name: str
    n: int
    success: float
    low: float
    high: float


def read(text: str) -> dict[str, Arm]:
    """Return the arms of the table below :data:`HEADING`."""
    arms = dict[str, Arm]()
    for line in text.partition(HEADING)[2].partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 3 and cells[1].isdigit():
            low, _, high = cells[3].partition(" - ")
            arms[cells[0]] = Arm(cells[0], int(cells[1]), float(cells[2]), float(low), float(high))
    return arms


def draw(arms: dict[str, Arm]) -> str:
    """Return the chart as SVG: a bar and an interval for each of :data:`LABELS`."""
    drawn = [arms[name] for name in LABELS]
    (n,) = {arm.n for arm in drawn}
    height = TOP + ROW * len(drawn) + BOTTOM
    description = "; ".join(f"{LABELS[arm.name]} {arm.success} %, {arm.low} to {arm.high}" for arm in drawn)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="t d" '
        'font-family="system-ui, sans-serif" font-size="15">',
        f'<title id="t">Success on {n} held-out games of ALFWorld</title>',
        f'<desc id="d">With 95 % intervals: {description}.</desc>',
        f"<style>{STYLE}</style>",
        f'<text x="{LEFT}" y="20" font-weight="600">Success on {n} held-out ALFWorld games, %</text>',
    ]
    bottom = TOP + ROW * len(drawn)
    for percent in range(0, 101, 20):
        x = place(percent)
        parts.append(f'<path class="grid" d="M{x} {TOP - 8}V{bottom}"/>')
        parts.append(f'<text class="s" x="{x}" y="{bottom + 18}" text-anchor="middle">{percent}</text>')
    for row, arm in enumerate(drawn):
        middle = TOP + ROW * row + ROW // 2 - 4
        own = arm.name == "distilled"
        weight = ' font-weight="600"' if own else ""
        low, high = place(arm.low), place(arm.high)
        parts += [
            f'<text x="{LEFT - 12}" y="{middle + 5}" text-anchor="end"{weight}>{LABELS[arm.name]}</text>',
            f'<rect class="{"own" if own else "bar"}" x="{LEFT}" y="{middle - 10}" '
            f'width="{round(place(arm.success) - LEFT, 1)}" height="20" rx="3"/>',
            f'<path class="line" d="M{low} {middle}H{high}M{low} {middle - 5}v10M{high} {middle - 5}v10"/>',
            f'<text x="{high + 8}" y="{middle + 5}"{weight}>{arm.success:.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def place(percent: float) -> float:
    """Return the x coordinate of a percentage."""
    return round(LEFT + (WIDTH - LEFT - RIGHT) * percent / 100, 1)


def main() -> int:
    """Write the chart, or check it; 1 if it is stale."""
    chart = draw(read(TABLE.read_text()))
    if "--check" in sys.argv[1:]:
        if CHART.read_text() == chart:
            return 0
        print(f"{CHART} is not what {TABLE} says; run python3 hack/pictures/results_chart.py", file=sys.stderr)
        return 1
    CHART.write_text(chart)
    return 0


if __name__ == "__main__":
    sys.exit(main())
