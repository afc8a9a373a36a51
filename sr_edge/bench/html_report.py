"""Benchmark results as HTML for notebooks: caption, table, and remarks on the rows. All text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
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


def html_report(report: BenchReport) -> str:
    """The whole report, with the times of the devices' own clocks where there are any."""
    title, machine = caption(report)
    best = headline(report)
    heading = f"<p><b>{escape(best or title)}</b></p>" + (f"<p>{escape(title)}</p>" if best else "")
    on_device = [device_cells(row, row.on_device) for row in report.rows if row.on_device]
    device_table = html_table(DEVICE_HEADINGS, on_device) if on_device else ""
    listed = html_list("", [*remarks(report.rows), machine, *legend(report, time_legend(report))])
    return f"{heading}{html_table(*shown_columns(report))}{device_table}{listed}{''.join(map(_census, report.rows))}"


def _census(row: Row) -> str:
    """The section of a variant on the time by operator and on what moves data; empty where it was not measured."""
    if row.census is None:
        return ""
    operators = html_table(OPERATOR_HEADINGS, operator_rows(row.census))
    movements = html_table(MOVEMENT_HEADINGS, movement_rows(row.census))
    title = f"<p><b>{escape(census_title(row, row.census))}</b></p>"
    return f"<section>{title}{operators}<p>{escape(MOVEMENT_LEGEND)}</p>{movements}</section>"


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns of numbers are aligned to the right."""
    lines = [_html_row("th", headings, headings), *(_html_row("td", headings, row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _html_row(tag: str, headings: Sequence[str], cells: Sequence[str]) -> str:
    alignments = ("left" if heading in (*TEXT_HEADINGS, *LEFT_ALIGNED) else "right" for heading in headings)
    cell_tags = (
        f'<{tag} style="text-align: {alignment}">{escape(cell)}</{tag}>'
        for alignment, cell in zip(alignments, cells, strict=True)
    )
    return f"<tr>{''.join(cell_tags)}</tr>"


def html_list(title: str, items: Sequence[str]) -> str:
    """A list below a line of text, each of which may be empty."""
    heading = f"<p>{escape(title)}</p>" if title else ""
    listed = f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else ""
    return heading + listed
