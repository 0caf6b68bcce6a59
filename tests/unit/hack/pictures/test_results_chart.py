"""hack/pictures/results_chart.py: the README's chart says what the table of docs/results.md says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from hack.pictures import results_chart

TABLE = """
## ALFWorld's own games

| arm | n | success % | 95 % interval |
|---|---:|---:|---:|
| baseline | 10 | 20.0 | 5.7 - 51.0 |
| sft | 10 | 30.0 | 10.8 - 60.3 |
| placebo-distilled | 10 | 40.0 | 16.8 - 68.7 |
| distilled | 10 | 90.0 | 59.6 - 98.2 |
| rag | 10 | 100.0 | 72.2 - 100.0 |

## Generated games

| baseline | 99 | 1.0 | 0.0 - 2.0 |
"""


def test_chart_has_a_bar_as_long_as_the_tables_number():
    drawn = ElementTree.fromstring(results_chart.draw(results_chart.read(TABLE)))
    lengths = [float(bar.attrib["width"]) for bar in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert [round(length / lengths[-1], 2) for length in lengths] == [0.2, 0.3, 0.4, 0.9, 1.0]


def test_chart_of_the_repository_is_fresh():
    program = Path(results_chart.__file__)
    assert subprocess.run([sys.executable, program, "--check"], check=False).returncode == 0
