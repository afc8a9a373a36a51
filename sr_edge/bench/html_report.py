"""Benchmark results as HTML for notebooks: caption, table, and remarks on the rows. All text is escaped."""

from __future__ import annotations

from html import escape

from sr_edge.bench.rows import BenchReport
from sr_edge.bench.tables import DEVICE_HEADINGS, TEXT_HEADINGS, caption, device_cells, filled_columns, remarks
from sr_edge.printable import html_list, html_table


def html_report(report: BenchReport) -> str:
    """The whole report, with the times of the devices' own clocks where there are any."""
    title, *explanations = caption(report)
    table = html_table(*filled_columns(report.rows), TEXT_HEADINGS)
    on_device = [device_cells(row, row.on_device) for row in report.rows if row.on_device]
    device_table = html_table(DEVICE_HEADINGS, on_device, TEXT_HEADINGS) if on_device else ""
    return f"<p><b>{escape(title)}</b></p>{table}{device_table}" + html_list("", [*remarks(report.rows), *explanations])
