"""What a reader of a benchmark wants to know first: the best variant here in one line, and which rows to show."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence

from sr_edge.bench.rows import BenchReport, Row
from sr_edge.errors import TileError
from sr_edge.runtimes.variants import Variant
from sr_edge.spec import ModelCard, Precision, TileSpec
from sr_edge.tiling import plan_tiles

FRAME_HEIGHT, FRAME_WIDTH = 720, 1280
"""Size of the input frames for which a headline estimates the frame rate."""


def headline(report: BenchReport) -> str:
    """The best variant in one line, for example:

        Best here: openvino int8+bf16, 25 ms a tile, about 12 frames/s at 1280x720, -0.004 dB, 3.1x the speed of fp32

    Without a recommendation it is the fastest that passed its test, "Fastest here: ..."; empty where nothing was timed.
    """
    best = report.best_row()
    if best is None or best.latency is None:
        return ""
    latency_ms = best.latency.total.p50_ms
    parts = [f"{best.variant.runtime} {best.variant.label}", f"{_digits(latency_ms)} ms a tile"]
    tiles = tiles_of_frame(report.card, report.tile)
    if tiles:
        parts.append(f"about {_digits(1e3 / (latency_ms * tiles))} frames/s at {FRAME_WIDTH}x{FRAME_HEIGHT}")
    parts += _beside_fp32(best, report)
    return f"{'Best' if report.recommended else 'Fastest'} here: {', '.join(parts)}"


def _beside_fp32(best: Row, report: BenchReport) -> list[str]:
    """The loss of a variant and its speed relative to the fastest fp32 variant; empty for fp32."""
    if best.variant.precision is Precision.FP32:
        return []
    cost_db = best.quality.cost_db if best.quality else None
    speed = speeds(report.rows).get(best.variant)
    lost = [] if cost_db is None else [f"{-cost_db:.3f} dB"]
    return lost + ([] if speed is None else [f"{speed:.1f}x the speed of fp32"])


def tiles_of_frame(card: ModelCard, tile: TileSpec) -> int:
    """The number of tiles that cover a frame of FRAME_WIDTH x FRAME_HEIGHT; 0 if the tile is too small for overlaps."""
    try:
        return plan_tiles(FRAME_HEIGHT, FRAME_WIDTH, tile, card.overlap_px).tiles
    except TileError:
        return 0


def frame_line(report: BenchReport) -> str:
    """What the frame rate of the headline stands for."""
    tiles, scale = tiles_of_frame(report.card, report.tile), report.card.scale
    if not tiles:
        return ""
    return (
        f"A frame of {FRAME_WIDTH}x{FRAME_HEIGHT} pixels has {tiles} tile{'s' * (tiles > 1)} and becomes one of "
        f"{scale * FRAME_WIDTH}x{scale * FRAME_HEIGHT}; frames/s leaves out reading and writing it."
    )


def _digits(value: float) -> str:
    """Two significant digits, and all digits before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def base_of(rows: Sequence[Row]) -> Variant | None:
    """The fastest fp32 variant, to which speeds are relative; None if none was timed."""
    timed = [
        row for row in rows if row.latency and row.spec and row.spec.ran is row.variant.precision is Precision.FP32
    ]
    return min(timed, key=_p50_ms).variant if timed else None


def speeds(rows: Sequence[Row]) -> dict[Variant, float]:
    """How many times as fast as the fastest fp32 variant each variant is: the median over the rounds."""
    base = next((row for row in rows if row.variant == base_of(rows)), None)
    return {} if base is None else {row.variant: _speed(row, base) for row in rows if row.latency}


def _speed(row: Row, base: Row) -> float:
    if row.rounds_ms and len(row.rounds_ms) == len(base.rounds_ms):
        return statistics.median(each / mine for mine, each in zip(row.rounds_ms, base.rounds_ms, strict=True))
    return _p50_ms(base) / _p50_ms(row)


def _p50_ms(row: Row) -> float:
    return row.latency.total.p50_ms if row.latency else float("inf")


def shown_rows(report: BenchReport) -> list[Row]:
    """The rows that a table shows: those that ran and, in a timed benchmark, were timed, the fastest first."""
    ran = [row for row in report.rows if row.spec]
    timed = [row for row in ran if row.latency]
    return sorted(timed, key=_p50_ms) if timed else ran


def left_out_line(report: BenchReport) -> str:
    """One line with the variants that the table does not show: "cannot run here: torch fp16, int8; tensorrt"."""
    return cannot_run_line([row.variant for row in report.rows], {row.variant for row in shown_rows(report)})


def cannot_run_line(variants: Sequence[Variant], shown: Collection[Variant]) -> str:
    """One line with the variants that are not among those shown, a runtime without any by its name alone; else empty.

    Args:
        variants: All variants.
        shown: Those that could be run.
    """
    hidden = [variant for variant in variants if variant not in shown]
    if not hidden:
        return ""
    names = []
    for runtime in dict.fromkeys(variant.runtime for variant in hidden):
        labels = [variant.label for variant in hidden if variant.runtime == runtime]
        is_whole = all(variant.runtime != runtime for variant in shown)
        names.append(runtime if is_whole else f"{runtime} {', '.join(labels)}")
    return f"cannot run here: {'; '.join(names)} (--all lists the reasons)"
