"""The page of the chart's values: those of the chart's README, as a page of the reference."""

from __future__ import annotations

from collections.abc import Iterable

from hack.chart_readme import Value
from hack.reference.markdown import code, page, paragraph, table


def render(values: Iterable[Value]) -> str:
    """Return the page of a chart's values."""
    return page(
        "Helm values",
        paragraph(
            "These are the values of the chart `charts/distillery`. Helm checks every value that you set against "
            "`values.schema.json`, and rejects a name that the chart does not have. A row without a type groups the "
            "rows below it."
        ),
        table(
            ["value", "type", "default", "description"],
            ([code(value.path), value.kind, code(value.default), value.description] for value in values),
        ),
    )
