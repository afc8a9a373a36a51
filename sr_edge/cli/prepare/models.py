"""`sr-edge models`: the registered networks, and the families that are recognised in a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import LOADING_TORCH, JsonOption

if TYPE_CHECKING:
    from rich.console import Group

    from sr_edge.models.loading.spandrel_networks import FamilyRow
    from sr_edge.models.model_list import ModelRow

MEGA, GIGA = 1e6, 1e9

FamiliesOption = Annotated[
    bool, typer.Option("--families", help="List the architecture families that are recognised in a checkpoint instead.")
]


def models(families: FamiliesOption = False, as_json: JsonOption = False) -> None:
    """List the models, their sizes and their bundled weights."""
    from sr_edge.cli.output import result_on_stdout, stage_on_stderr

    with result_on_stdout(as_json) as show:
        if families:
            with stage_on_stderr(LOADING_TORCH):
                from sr_edge.installation import how_to_install
                from sr_edge.models.loading.spandrel_networks import family_rows
                from sr_edge.models.recognition.library import EXTRA, is_installed

                families_known, installed, install = family_rows(), is_installed(), how_to_install(EXTRA)
            document = {"families": families_known, "spandrel": {"installed": installed, "install": install}}
            show(document, family_table(families_known, "" if installed else install))
        else:
            with stage_on_stderr(LOADING_TORCH):
                from sr_edge.models import model_rows

                rows = model_rows()
            show({"models": rows}, _table(rows))


def family_table(rows: list[FamilyRow], install: str) -> Group:
    """The table of families.

    Args:
        rows: the families.
        install: command that installs spandrel, which recognises them; empty if it is installed.
    """
    from rich.console import Group
    from rich.table import Table

    table = Table("family", "purpose", "licence of its code", "supported")
    for row in rows:
        supported = "no" if row.refused else f"yes, as {row.registered}" if row.registered else "yes"
        table.add_row(row.name, row.purpose, row.licence, supported)
    missing = f"spandrel, which recognises them, is not installed; run: {install}\n" if install else ""
    refused = "\n".join(f"{row.name} is not supported: {row.refused}." for row in rows if row.refused)
    return Group(
        table,
        f"{missing}The licence of a checkpoint is that of its publisher. 'not stated': according to spandrel, the code "
        f"of all these families has a permissive licence.\n{refused}",
    )


def _table(rows: list[ModelRow]) -> Group:
    from rich.console import Group
    from rich.table import Table

    scales = sorted({scale for row in rows for scale in row.parameters})
    counts = [f"params x{scale}" for scale in scales]
    table = Table("model", *counts, f"GMAC x{scales[0]}", "tile", "overlap", "statistics", "bundled weights")
    for column in table.columns[1:-2]:
        column.justify = "right"
    for row in rows:
        table.add_row(row.name, *(f"{row.parameters[scale] / MEGA:.3f}" for scale in scales), *_needs(row, scales[0]))
    return Group(
        table,
        "params: millions of parameters. GMAC: 10^9 multiply-accumulates at 96x96.\n"
        "tile: height and width are multiples of this. overlap: in pixels.\n"
        "statistics: global where a pixel depends on the whole image. Not bundled: --weights or --random-weights.",
    )


def _needs(row: ModelRow, scale: int) -> tuple[str, ...]:
    macs = f"{row.macs[scale] / GIGA:,.1f}" if scale in row.macs else "-"
    bundled = ", ".join(f"x{scale}" for scale in row.bundled_scales)
    return macs, str(row.multiple_px), str(row.overlap_px), "global" if row.global_statistics else "", bundled or "-"
