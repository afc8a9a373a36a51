"""Renders benchmark results as tables for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from itertools import compress
from pathlib import Path

from rich.console import Group, OverflowMethod
from rich.table import Table

from sr_edge.bench.environment import Environment
from sr_edge.bench.headline import base_of, frame_line, headline, left_out_line, shown_rows, speeds
from sr_edge.bench.operator_times.census import Census
from sr_edge.bench.operator_times.tables import (
    FOLDED,
    LEFT_ALIGNED,
    MOVEMENT_HEADINGS,
    MOVEMENT_LEGEND,
    OPERATOR_HEADINGS,
    movement_rows,
    operator_rows,
    summary,
)
from sr_edge.bench.quality import HrScores
from sr_edge.bench.rows import BenchReport, DeviceFigures, Row, flat_row
from sr_edge.files.whole_file import whole_file
from sr_edge.image_files import note_about_others
from sr_edge.runtimes.variants import Variant
from sr_edge.spec import Precision

BEST = "*"
"""Marks the best variant, in a column without a heading."""
HEADINGS = (
    "",
    "runtime",
    "precision",
    "ran",
    "load ms",
    "ms p50",
    "ms p90",
    "x fp32",
    "tiles/s",
    "MB peak",
    "dB lost",
    "dB float",
    "dB HR",
    "SSIM HR",
)
TEXT_HEADINGS = HEADINGS[:4]
LEAST_IMPORTANT = ("load ms", "ms p90", "MB peak", "SSIM HR", "enqueue ms", "MHz", "°C", "W", "tiles/s", "sum p99")
"""Columns that a narrow terminal may leave out, those that are left out first at the beginning."""
_NOT_ON_PAGES = ("", "load ms", "ms p50", "ms p90", "x fp32", "tiles/s", "dB lost")
DEVICE_HEADINGS = (
    "runtime",
    "precision",
    "H2D ms",
    "compute ms",
    "D2H ms",
    "sum p50",
    "sum p99",
    "enqueue ms",
    "MB device",
    "W",
    "MHz",
    "°C",
)
NOT_MEASURED = "-"


def cells(row: Row, best: Variant | None = None, speed: float | None = None) -> tuple[str, ...]:
    """The cells of a row, one for each heading, with a dash for what was not measured.

    Args:
        row: The row.
        best: The variant to mark.
        speed: Speed of the row relative to fp32.
    """
    quality = row.quality
    hr = quality.hr if quality else None
    measured = (
        _number(row.spec.load_ms if row.spec else None, 0),
        _number(row.latency.total.p50_ms if row.latency else None, 2),
        _number(row.latency.total.p90_ms if row.latency else None, 2),
        _number(speed, 2),
        _number(row.tiles_per_s, 1),
        _number(row.memory.added_bytes / 1e6 if row.memory else None, 1),
        _number(quality.cost_db if quality else None, 3),
        _number(quality.psnr_float_db if quality else None, 2),
        _number(hr.psnr_y_db if hr else None, 3),
        _number(hr.ssim_y if hr else None, 4),
    )
    return (BEST if row.variant == best else "", row.variant.runtime, row.variant.label, _ran(row), *measured)


def device_cells(row: Row, figures: DeviceFigures) -> tuple[str, ...]:
    """The cells of a row for each device heading: medians and the p99 of the sum, and the state after the runs."""
    latency, state = figures.latency, figures.latency.after
    times = (latency.h2d, latency.compute, latency.d2h, latency.total)
    return (
        row.variant.runtime,
        row.variant.label,
        *(_number(part.p50_ms, 3) for part in times),
        _number(latency.total.p99_ms, 3),
        _number(latency.enqueue.p50_ms, 3),
        _number(figures.memory.total_bytes / 1e6, 1),
        _number(state.power_w if state else None, 1),
        _number(state.clock_mhz if state else None, 0),
        _number(state.temperature_c if state else None, 0),
    )


def _ran(row: Row) -> str:
    """The precision that ran, with that of the float layers where it differs."""
    if row.spec is None:
        return "unavailable"
    same = row.spec.float_precision_ran in (row.spec.ran, row.variant.float_precision)
    return str(row.spec.ran) if same else f"{row.spec.ran}+{row.spec.float_precision_ran}"


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return NOT_MEASURED
    return f"{value:,.{digits}f}" if math.isfinite(value) else "equal" if value > 0 else "wrong"


def caption(report: BenchReport) -> list[str]:
    """The lines above a table: what was measured, and where."""
    card = report.card
    weights = " RANDOM WEIGHTS: only latency and memory are meaningful." if card.random_weights else ""
    return [
        f"{card.name} x{card.scale}, tile {report.tile} ({card.parameters:,} parameters).{weights}",
        machine_line(report.environment),
    ]


def legend(report: BenchReport, time_legend: str) -> list[str]:
    """The lines that explain the columns of a table; `time_legend` explains that of the times."""
    return [
        *_timing(report, time_legend),
        '"dB float" is the PSNR of the 8-bit output against the output of the float network, on the bundle\'s '
        "stored test tiles.",
        *_baseline(report),
    ]


def time_legend(report: BenchReport) -> str:
    """Explains the columns of times in a table of `shown_columns`."""
    base = base_of(report.rows)
    relative = f'"x fp32" is the speed relative to {base.runtime} fp32. ' if base else ""
    mark = f'"{BEST}" marks the {"recommended" if report.recommended else "fastest"} variant. '
    has_loss = any(row.quality and row.quality.cost_db is not None for row in report.rows)
    lost = '"dB lost" is what the precision costs in PSNR beside fp32, before rounding to 8 bits. ' if has_loss else ""
    rate = '"tiles/s" is the number of tiles per second at the median latency.'
    return f"{mark}{relative}{lost}{rate} {frame_line(report)}"


def count_of(number: int, noun: str) -> str:
    """A number with its noun, such as "1 round" or "2 rounds"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def machine_line(environment: Environment) -> str:
    """The computer, its clock and its load in one line."""
    machine = environment.machine
    clock = f", {environment.clock_mhz:.0f} MHz" if environment.clock_mhz else ""
    governor = f", governor {environment.governor}" if environment.governor else ""
    flags = ", ".join(machine.cpu_flags or ()) or "unknown"
    cores = f"{machine.cpu}, {machine.usable_cores} cores{clock}{governor}"
    return f"{cores}, load {environment.load_average:.1f}; instructions: {flags}"


def _timing(report: BenchReport, time_legend: str) -> list[str]:
    if not report.rounds:
        return []
    rounds = count_of(report.rounds, "round")
    has_memory = any(row.memory for row in report.rows)
    memory = ' "MB peak" is the peak memory of a new process, minus its memory before the engine was loaded.'
    return [
        f"Each variant processes one tile at a time. The variants are timed alternately, in {rounds} "
        f"after {report.warm_up} warm-up rounds. {time_legend}{memory if has_memory else ''}"
    ]


def _baseline(report: BenchReport) -> list[str]:
    if report.bicubic is None:
        return []
    scores = report.bicubic
    baseline = "bicubic interpolation reaches" if report.card.scale > 1 else "the images before restoration have"
    number = len(scores.pictures)
    pictures = "the original image" if number == 1 else f"the {number:,} original images"
    compared = (
        f'"dB HR" and "SSIM HR" are PSNR and SSIM of the luma against {pictures}, '
        f"excluding a border of {report.card.scale} pixels; {baseline} {scores.psnr_y_db:.3f} dB "
        f"and {scores.ssim_y:.4f}."
    )
    return [compared, _NOT_TRAINED_FOR_PSNR] if _loses_to_bicubic(report, scores) else [compared]


_NOT_TRAINED_FOR_PSNR = (
    "The PSNR of the network is below that of this baseline on these images, which is usual for networks "
    'trained with adversarial losses. Judge the images by eye: "dB HR" does not rank such networks, and "dB float" '
    "shows what a precision changes."
)


def _loses_to_bicubic(report: BenchReport, bicubic: HrScores) -> bool:
    fp32_scores = [row.quality.hr for row in report.rows if row.variant.precision is Precision.FP32 and row.quality]
    return any(scores is not None and scores.psnr_y_db < bicubic.psnr_y_db for scores in fp32_scores)


def rich_report(report: BenchReport, with_reasons: bool = True) -> Group:
    """The headline, the table with the fastest variant first, and under it what explains it.

    Args:
        report: The benchmark.
        with_reasons: Whether to list why variants are not in the table; otherwise one line names them.
    """
    rows = shown_rows(report)
    remarked = report.rows if with_reasons else rows
    table = [_grid(*shown_columns(report))] if rows else []
    left_out = [] if with_reasons else [left_out_line(report)]
    lines = [headline(report), *caption(report)]
    explained = [*legend(report, time_legend(report)), *left_out, *remarks(remarked)]
    return Group(
        *filter(None, lines),
        *table,
        *_on_device(report.rows),
        *filter(None, explained),
        *_censuses(report.rows),
        *note_about_others(report.not_images),
    )


def _censuses(rows: Sequence[Row]) -> list[str | Table]:
    """The tables of the time by operator, and of what moves data; empty without any."""
    shown: list[str | Table] = []
    for row in rows:
        if row.census:
            operators = _grid(OPERATOR_HEADINGS, operator_rows(row.census))
            movements = _grid(MOVEMENT_HEADINGS, movement_rows(row.census))
            shown += [census_title(row, row.census), operators, MOVEMENT_LEGEND, movements]
    return shown


def census_title(row: Row, census: Census) -> str:
    """The line above the tables of a census."""
    return f"{row.variant.runtime} {row.variant.label} by operator: {summary(census)}"


def _on_device(rows: Sequence[Row]) -> list[str | Table]:
    """The table of the devices' own measurements; empty without any."""
    rows_on_device = [device_cells(row, row.on_device) for row in rows if row.on_device]
    if not rows_on_device:
        return []
    legend = (
        'Times of one tile by the GPU\'s clock: copy in, compute, copy out. "enqueue" is the CPU time to enqueue it.'
    )
    return [legend, _grid(DEVICE_HEADINGS, rows_on_device)]


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    grid = Table()
    for heading in headings:
        is_text = heading in TEXT_HEADINGS or heading in LEFT_ALIGNED
        overflow: OverflowMethod = "fold" if heading in FOLDED else "ellipsis"
        grid.add_column(heading, justify="left" if is_text else "right", overflow=overflow)
    for row in rows:
        grid.add_row(*row)
    return grid


def markdown_report(report: BenchReport) -> str:
    """The table as Markdown, for a page that outlives the machine: times are multiples of the first timed row's."""
    headings, rows = filled_columns(report.rows)
    portable = [heading not in _NOT_ON_PAGES for heading in headings]
    headings, rows = list(compress(headings, portable)), [list(compress(row, portable)) for row in rows]
    if report.rounds:
        at = headings.index("ran") + 1
        headings.insert(at, "time")
        for row, time in zip(rows, _relative_times(report.rows), strict=True):
            row.insert(at, _number(time, 2))
    rule = ["---" if heading in TEXT_HEADINGS else "---:" for heading in headings]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, rule, *rows))
    listed = "\n".join(f"- {remark}" for remark in remarks(report.rows))
    lines = [*caption(report), *legend(report, '"time" is the median latency, relative to the first row.')]
    return "\n\n".join(paragraph for paragraph in (*lines, table, listed) if paragraph) + "\n"


def _relative_times(rows: Sequence[Row]) -> list[float | None]:
    """Median latencies as multiples of the first one."""
    medians = [row.latency.total.p50_ms if row.latency else None for row in rows]
    first = next((ms for ms in medians if ms), 1.0)
    return [ms / first if ms else None for ms in medians]


def shown_columns(report: BenchReport) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the rows that a table shows, the best one marked.

    The column of the precision that ran is left out where all ran in their own.
    """
    best, relative = report.best_row(), speeds(report.rows)
    rows = shown_rows(report)
    headings, table = _without_empty(
        [cells(row, best.variant if best else None, relative.get(row.variant)) for row in rows]
    )
    is_plain = all(row.spec and row.spec.ran is row.variant.precision and "+" not in _ran(row) for row in rows)
    kept = [not (is_plain and heading == "ran") for heading in headings]
    return list(compress(headings, kept)), [list(compress(row, kept)) for row in table]


def filled_columns(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of all rows, without the columns in which nothing was measured."""
    return _without_empty([cells(row) for row in rows])


def _without_empty(table: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    used = [any(row[index] not in ("", NOT_MEASURED) for row in table) for index in range(len(HEADINGS))]
    return list(compress(HEADINGS, used)), [list(compress(row, used)) for row in table]


def remarks(rows: Sequence[Row]) -> list[str]:
    """Reasons, notes and remarks of the rows; equal ones of a runtime are one line."""
    remarked = []
    for row in rows:
        note = row.spec.note if row.spec else ""
        is_noted = any(note in remark for remark in row.remarks)
        texts = (row.reason, "" if is_noted else note, *row.remarks, *_unscored(row))
        remarked += [(row.variant, text) for text in texts if text]
    return grouped(remarked)


def _unscored(row: Row) -> list[str]:
    failed = row.quality.hr.failed if row.quality and row.quality.hr else ()
    return [f"{picture.name} failed and is not in the means: {picture.reason}" for picture in failed]


def grouped(remarked: Sequence[tuple[Variant, str]]) -> list[str]:
    """One line for each text and runtime, with the precisions that it applies to."""
    labels: dict[tuple[str, str], list[str]] = {}
    for variant, text in remarked:
        labels.setdefault((variant.runtime, text), []).append(variant.label)
    return [f"{runtime} {', '.join(precisions)}: {text}" for (runtime, text), precisions in labels.items()]


def csv_report(report: BenchReport) -> str:
    """A line of headings and a line for each row; cells of what was not measured are empty."""
    buffer = io.StringIO()
    rows = [flat_row(row) for row in report.rows]
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else ["runtime"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file completely or not at all; raises OSError.

    Args:
        path: The file.
        text: Its content.
    """
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
