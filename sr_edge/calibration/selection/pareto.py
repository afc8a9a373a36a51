"""The curve of loss in decibels against time, as JSON and as a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from sr_edge.bundle.plain import json_text
from sr_edge.calibration.result.output import write_output
from sr_edge.calibration.selection.gate import CurvePoint
from sr_edge.calibration.selection.report import CalibrationReport


def curve_document(report: CalibrationReport) -> dict[str, Any]:
    """The curve and the meaning of its axes, as plain data."""
    timings = report.calibration.timings
    return {
        "cost": "milliseconds for one tile" if timings and timings.is_measured else "MMAC of the float layers",
        "unit": timings.unit if timings else "",
        "runtime": timings.runtime if timings else "",
        "float_precision": timings.float_precision if timings else "",
        "drop_db": report.metric,
        "max_drop_db": report.budget.max_drop_db,
        "chosen": _chosen(report),
        "points": report.selection.curve,
        "measured": report.latency,
    }


def write_curve(report: CalibrationReport, json_path: Path, png_path: Path) -> tuple[Path, ...]:
    """Writes both files, but no picture without matplotlib; returns the files that were written.

    Args:
        report: What was calibrated.
        json_path: The file for the points of the curve.
        png_path: The file for its picture.

    Raises:
        CalibrationError: A file cannot be written.
    """
    write_output(json_path, json_text(curve_document(report)).encode())
    try:
        picture = _picture(report)
    except ImportError:
        return (json_path,)
    write_output(png_path, picture)
    return json_path, png_path


def _chosen(report: CalibrationReport) -> CurvePoint:
    timings = report.calibration.timings
    cost = timings.cost(report.selection.int8) if timings else 0.0
    return CurvePoint(len(report.selection.int8), report.selection.drop_db, cost)


def _picture(report: CalibrationReport) -> bytes:
    from matplotlib.figure import Figure  # pyplot would keep state and may need a window system

    document, points, chosen = curve_document(report), report.selection.curve, _chosen(report)
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    best = _undominated(points)
    axes.plot([point.cost for point in best], [point.drop_db for point in best], color="#4477aa", linewidth=1)
    axes.scatter([point.cost for point in points], [point.drop_db for point in points], color="#4477aa", s=18)
    axes.scatter([chosen.cost], [chosen.drop_db], color="#cc3311", s=50, zorder=3, label="chosen")
    axes.axhline(report.budget.max_drop_db, color="#999999", linestyle="--", linewidth=1, label="budget")
    for point in (best[0], best[-1]):
        axes.annotate(
            f"{point.int8_layers} INT8",
            (point.cost, point.drop_db),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
        )
    axes.set_xlabel(f"{document['cost']}" + (f" ({document['runtime']})" if document["runtime"] else ""))
    axes.set_ylabel("loss, dB")
    axes.legend(frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


def _undominated(points: tuple[CurvePoint, ...]) -> list[CurvePoint]:
    """The points, from fastest to slowest, with a smaller loss than all faster ones."""
    best: list[CurvePoint] = []
    for point in points:
        if not best or point.drop_db < best[-1].drop_db:
            best.append(point)
    return best
