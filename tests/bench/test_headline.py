"""The first line of a benchmark names the best variant with figures that can be read, and the table marks it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sr_edge.bench.headline import frame_line, headline, left_out_line, shown_rows, speeds, tiles_of_frame
from sr_edge.bench.recommendation import recommend, recommended_engines
from sr_edge.bench.rows import BenchReport, Row
from sr_edge.bench.tables import BEST, HEADINGS, shown_columns
from sr_edge.runtimes import StageLatency
from sr_edge.runtimes.session import Latency
from sr_edge.runtimes.variants import Variant
from sr_edge.spec import DEFAULT_TILE, ModelCard, TileSpec
from tests.bench.test_recommendation import BF16, BUNDLE, FP32, INT8, report, row


def timed(of: Row) -> Row:
    """The row with the latency of its rounds."""
    latency = Latency.from_samples(of.rounds_ms)
    return replace(of, latency=StageLatency(latency, latency, latency, latency))


def benchmark(*rows: Row, tile: TileSpec = DEFAULT_TILE) -> BenchReport:
    """A report with the recommendations for its rows."""
    of = replace(report(*map(timed, rows)), tile=tile)
    return replace(of, recommended=recommended_engines(of, recommend(of, 0.05, BUNDLE), 0.05, "bench"))


def test_the_best_variant_with_its_figures() -> None:
    of = benchmark(row(FP32, 77.5), row(INT8, 25.0, 0.004, float_precision=BF16), row(FP32, 100.0, runtime="torch"))
    assert headline(of) == (
        "Best here: openvino int8+bf16, 25 ms a tile, about 0.3 frames/s at 1280x720, -0.004 dB, 3.1x the speed of fp32"
    )


def test_fp32_is_not_compared_with_itself() -> None:
    assert headline(benchmark(row(FP32, 0.5), tile=TileSpec(720, 1280))) == (
        "Best here: openvino fp32, 0.5 ms a tile, about 2,000 frames/s at 1280x720"
    )


def test_without_a_recommendation_it_is_the_fastest() -> None:
    of = benchmark(row(FP32, 10.0, rounds=2), row(INT8, 5.0, 0.01, rounds=2))
    assert headline(of).startswith("Fastest here: openvino int8, 5.0 ms a tile")
    assert headline(report(row(FP32, 10.0))) == ""  # not timed


@pytest.mark.parametrize(("tile", "tiles"), [(TileSpec(720, 1280), 1), (TileSpec(96, 96), 135), (TileSpec(8, 8), 0)])
def test_frames_are_counted_in_tiles_that_overlap(tile: TileSpec, tiles: int) -> None:
    assert tiles_of_frame(ModelCard("net", 2, 10, overlap_px=8), tile) == tiles


def test_the_size_of_the_frames_is_stated() -> None:
    of = benchmark(row(FP32, 10.0))
    assert "1280x720" in frame_line(of) and "2560x1440" in frame_line(of)


def test_rows_are_sorted_by_speed_relative_to_the_fastest_fp32() -> None:
    of = benchmark(row(FP32, 40.0, runtime="torch"), row(INT8, 5.0, 0.01), row(FP32, 10.0))
    assert [each.variant.label for each in shown_rows(of)] == ["int8", "fp32", "fp32"]
    assert speeds(of.rows) == pytest.approx(
        {Variant("torch", FP32): 0.25, Variant("openvino", INT8): 2.0, Variant("openvino", FP32): 1.0}
    )
    headings, table = shown_columns(of)
    assert [cells[headings.index("x fp32")] for cells in table] == ["2.00", "1.00", "0.25"]
    assert [cells[headings.index(HEADINGS[0])] for cells in table] == [BEST, "", ""]


def test_the_precision_that_ran_is_a_column_only_where_it_differs() -> None:
    assert "ran" not in shown_columns(benchmark(row(FP32, 10.0), row(INT8, 5.0, float_precision=BF16)))[0]
    assert "ran" in shown_columns(benchmark(row(FP32, 10.0), row(INT8, 5.0, ran=FP32)))[0]


def test_what_cannot_run_is_one_line() -> None:
    absent = [Row(Variant("tensorrt", precision), reason="no GPU") for precision in (FP32, INT8)]
    of = report(timed(row(FP32, 10.0)), row(BF16, 1.0), *absent)
    assert left_out_line(of) == "cannot run here: openvino bf16; tensorrt (--all lists the reasons)"
    assert left_out_line(report(timed(row(FP32, 10.0)))) == ""
