"""`sr-edge models`: the networks known by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.cli.options import Json

if TYPE_CHECKING:
    from rich.console import Group

    from sr_edge.models.model_list import ModelRow

GIGA = 1e9


def models(as_json: Json = False) -> None:
    """List the models, their sizes, what tiles they need and bundled weights."""
    from sr_edge.cli.output import result_on_stdout

    with result_on_stdout(as_json) as show:
        from sr_edge.models import model_rows

        rows = model_rows()
        show({"models": rows}, _table(rows))


def _table(rows: list[ModelRow]) -> Group:
    from rich.console import Group
    from rich.table import Table

    scales = sorted({scale for row in rows for scale in row.parameters})
    counts = [f"parameters x{scale}" for scale in scales]
    table = Table("model", *counts, f"GMAC x{scales[0]}", "tile", "overlap", "statistics", "bundled weights")
    for column in table.columns[1:-2]:
        column.justify = "right"
    for row in rows:
        table.add_row(row.name, *(f"{row.parameters[scale]:,}" for scale in scales), *_needs(row, scales[0]))
    return Group(
        table,
        "GMAC: 10^9 multiply-accumulates at 96x96. tile: sides are multiples of this. overlap: of tiles in pixels.\n"
        "statistics: global where a pixel depends on the whole picture. Not bundled: --weights or --random-weights.",
    )


def _needs(row: ModelRow, scale: int) -> tuple[str, ...]:
    macs = f"{row.macs[scale] / GIGA:,.1f}" if scale in row.macs else "-"
    bundled = ", ".join(f"x{found}" for found in row.bundled_scales)
    return macs, str(row.multiple_px), str(row.overlap_px), "global" if row.global_statistics else "", bundled or "-"
