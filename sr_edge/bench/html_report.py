"""Benchmark results as HTML for notebooks: caption, table, and remarks on the rows. All text is escaped."""

from __future__ import annotations

from html import escape

from sr_edge.bench.headline import headline
from sr_edge.bench.operator_times.tables import (
    LEFT_ALIGNED,
    MOVEMENT_HEADINGS,
    MOVEMENT_LEGEND,
    OPERATOR_HEADINGS,
    movement_rows,
    operator_rows,
)
from sr_edge.bench.rows import BenchReport, Row
from sr_edge.bench.tables import (
    DEVICE_HEADINGS,
    TEXT_HEADINGS,
    caption,
    census_title,
    device_cells,
    legend,
    remarks,
    shown_columns,
    time_legend,
)
from sr_edge.printable import html_list, html_table


def html_report(report: BenchReport) -> str:
    """The whole report, with the times of the devices' own clocks where there are any."""
    title, machine = caption(report)
    best = headline(report)
    heading = f"<p><b>{escape(best or title)}</b></p>" + (f"<p>{escape(title)}</p>" if best else "")
    table = html_table(*shown_columns(report), TEXT_HEADINGS)
    on_device = [device_cells(row, row.on_device) for row in report.rows if row.on_device]
    device_table = html_table(DEVICE_HEADINGS, on_device, TEXT_HEADINGS) if on_device else ""
    listed = html_list("", [*remarks(report.rows), machine, *legend(report, time_legend(report))])
    return f"{heading}{table}{device_table}{listed}{''.join(map(_census, report.rows))}"


def _census(row: Row) -> str:
    """The section of a variant on the time by operator and on what moves data; empty where it was not measured."""
    if row.census is None:
        return ""
    operators = html_table(OPERATOR_HEADINGS, operator_rows(row.census), LEFT_ALIGNED)
    movements = html_table(MOVEMENT_HEADINGS, movement_rows(row.census), LEFT_ALIGNED)
    title = f"<p><b>{escape(census_title(row, row.census))}</b></p>"
    return f"<section>{title}{operators}<p>{escape(MOVEMENT_LEGEND)}</p>{movements}</section>"
