"""`sr-edge models`: the networks known by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.cli.options import Json

if TYPE_CHECKING:
    from rich.table import Table

    from sr_edge.models.registry import ModelRow


def models(as_json: Json = False) -> None:
    """List the models, their sizes and bundled weights."""
    from sr_edge.cli.output import result_on_stdout

    with result_on_stdout(as_json) as show:
        from sr_edge.models import model_rows

        rows = model_rows()
        show({"models": rows}, _table(rows))


def _table(rows: list[ModelRow]) -> Table:
    from rich.table import Table

    scales = sorted({scale for row in rows for scale in row.parameters})
    table = Table("model", *(f"parameters x{scale}" for scale in scales), "bundled weights")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for row in rows:
        bundled = ", ".join(f"x{scale}" for scale in row.bundled_scales)
        counts = (f"{row.parameters[scale]:,}" if scale in row.parameters else "" for scale in scales)
        table.add_row(row.name, *counts, bundled or "none: --weights FILE or --random-weights")
    return table
