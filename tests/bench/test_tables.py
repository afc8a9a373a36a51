"""Tables show every row, what really ran, and why the others did not."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from sr_edge.bench import (
    BenchReport,
    Census,
    Environment,
    GoldenResult,
    Quality,
    Row,
    SelfTest,
    Variant,
    csv_report,
    markdown_report,
    rich_report,
)
from sr_edge.bench.environment import caveats
from sr_edge.bench.operator_times.census import KindTime, OperatorTime
from sr_edge.bench.operator_times.kinds import Kind
from sr_edge.bench.operator_times.movement import Movement
from sr_edge.bench.quality import FailedPicture, HrScores, PictureScore
from sr_edge.bench.tables import HEADINGS, cells, remarks
from sr_edge.bundle.plain import to_plain
from sr_edge.cli.tables import fitted
from sr_edge.errors import FrameError, RuntimeUnavailable
from sr_edge.runtimes import Machine, SessionSpec, StageLatency, StartUp
from sr_edge.runtimes.measure.memory_probe import Memory
from sr_edge.runtimes.session import Latency
from sr_edge.spec import FrameFormat, ModelCard, Precision, TileSpec
from tests.expected_errors import raises

LATENCY = Latency.from_samples([4.0, 5.0, 6.0])
SCORES = HrScores.from_pictures([PictureScore("a.png", 30.0, 0.9), PictureScore("b.png", 33.0, 0.8)])
SPEC = SessionSpec(
    runtime="openvino",
    version="1",
    device="cpu",
    requested=Precision.FP32,
    ran=Precision.FP32,
    float_precision_ran=Precision.FP32,
    io=FrameFormat.FLOAT_NCHW,
    tile=TileSpec(16, 16),
    scale=2,
    threads=2,
    load_ms=12.3,
    artifact_bytes=1000,
)
RAN = Row(
    Variant("openvino", Precision.FP32),
    SPEC,
    StartUp(10.0, 20.0),
    StageLatency(LATENCY, LATENCY, LATENCY, LATENCY),
    Memory(1_000_000, 4_500_000),
    Quality(math.inf, 3, SCORES),
)
UNAVAILABLE = Row(Variant("openvino", Precision.FP16), reason="no fp16 kernels here")


def report(*rows: Row, random_weights: bool = False) -> BenchReport:
    machine = Machine("Linux", "3.11", "a cpu", 2, 8_000_000_000, ("avx2",))
    environment = Environment(machine, {"numpy": "2"}, 2600.0, "performance", 0.5, "2026-01-01T00:00:00+00:00")
    card = ModelCard("convnet-tiny", 2, 10, random_weights=random_weights)
    return BenchReport(card, TileSpec(16, 16), environment, 20, 3, rows, SCORES)


def printed(of: BenchReport, with_reasons: bool = True) -> str:
    console = Console(file=io.StringIO(), width=200, markup=False)
    console.print(rich_report(of, with_reasons))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_row_shows_medians_memory_and_quality() -> None:
    shown = dict(zip(HEADINGS, cells(RAN), strict=True))
    assert shown["ms p50"] == "5.00"
    assert shown["tiles/s"] == "200.0"
    assert shown["MB peak"] == "3.5"
    assert shown["dB float"] == "equal"
    assert shown["dB HR"] == "31.500"
    assert shown["SSIM HR"] == "0.8500"


def test_a_row_that_could_not_run_is_in_no_table_and_says_why_if_asked() -> None:
    of = report(RAN, UNAVAILABLE, Row(Variant("tensorrt", Precision.FP32), reason="no GPU"))
    assert "openvino fp16: no fp16 kernels here" in printed(of)
    short = printed(of, with_reasons=False)
    assert "no fp16 kernels here" not in short and "no GPU" not in short
    assert "cannot run here: openvino fp16; tensorrt (" in short


@pytest.mark.parametrize(
    ("ran", "float_precision_ran", "float_precision", "shown"),
    [
        (Precision.INT8, Precision.FP32, Precision.FP32, "int8"),
        (Precision.INT8, Precision.BF16, Precision.BF16, "int8"),
        (Precision.INT8, Precision.FP32, Precision.BF16, "int8+fp32"),
        (Precision.FP32, Precision.FP32, Precision.BF16, "fp32"),
    ],
)
def test_what_ran_is_shown_where_it_differs(
    ran: Precision, float_precision_ran: Precision, float_precision: Precision, shown: str
) -> None:
    row = Row(
        Variant("openvino", Precision.INT8, float_precision),
        replace(SPEC, ran=ran, float_precision_ran=float_precision_ran),
    )
    assert dict(zip(HEADINGS, cells(row), strict=True))["ran"] == shown


def test_columns_that_nothing_was_measured_for_are_left_out() -> None:
    untimed = replace(RAN, latency=None, memory=None)
    text = printed(report(untimed, UNAVAILABLE))
    assert "ms p50" not in text
    assert "dB HR" in text


CENSUS = Census(
    runtime="openvino",
    version="1",
    float_precision=Precision.FP32,
    threads=2,
    runs=20,
    total_ms=123.45,
    kinds=(
        KindTime(Kind.ARITHMETIC, 80.0, 0.648),
        KindTime(Kind.ELEMENTWISE, 20.0, 0.162),
        KindTime(Kind.MOVEMENT, 23.45, 0.19),
    ),
    operators=(
        OperatorTime("Convolution", Kind.ARITHMETIC, 12, 80.0, 0.648),
        *(OperatorTime(f"ScaledDotProductAttention{index}", Kind.MOVEMENT, 3, 1.25, 0.0125) for index in range(20)),
    ),
    movements=tuple(
        Movement(
            ("layers.*.residual_group.blocks.*.attn<b>.relative_position",),
            ("Concatenation", "ReorderOutput", "Transpose"),
            ("FullyConnected", "Subgraph"),
            ("ScaledDotProductAttention",),
            subgraphs=1036,
            ms=1234.56,
            share=0.0625,
        )
        for _ in range(20)
    ),
)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_census_fits_the_terminal_and_no_number_is_cut(width: int) -> None:
    shown = rich_report(report(replace(RAN, census=CENSUS)))
    tables = [part for part in shown.renderables if isinstance(part, Table)][-2:]
    for table in tables:
        console = Console(file=io.StringIO(), width=width, markup=False)
        console.print(fitted(table, width), crop=False)
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
        assert all(number in text for number in ("64.8%", "80.00") if table is tables[0])
        assert all(number in text for number in ("1036", "1234.56", "6.2%") if table is tables[1])
        assert "others" in text


def test_a_census_is_a_section_of_the_page() -> None:
    page = report(replace(RAN, census=CENSUS), RAN)._repr_html_()
    assert page.count("<section>") == 1
    assert "Convolution" in page
    assert "attn&lt;b&gt;" in page


def test_a_census_is_in_the_document() -> None:
    document = to_plain(report(replace(RAN, census=CENSUS)))
    assert document["rows"][0]["census"]["kinds"][0] == {"kind": "arithmetic", "ms": 80.0, "share": 0.648}


def test_random_weights_are_marked() -> None:
    assert "RANDOM WEIGHTS" in printed(report(RAN, random_weights=True))
    assert "RANDOM WEIGHTS" not in printed(report(RAN))


def test_notes_of_the_engine_and_remarks_are_listed() -> None:
    row = replace(RAN, spec=replace(SPEC, note="1 of 4 layers run in int8"), remarks=("memory not measured",))
    assert remarks([row]) == ["openvino fp32: 1 of 4 layers run in int8", "openvino fp32: memory not measured"]


def test_csv_has_one_line_per_row_with_units_in_its_headings() -> None:
    first, second = csv.DictReader(io.StringIO(csv_report(report(RAN, UNAVAILABLE))))
    assert float(first["p50_ms"]) == 5.0
    assert float(first["peak_added_bytes"]) == 3_500_000
    assert second["p50_ms"] == ""
    assert second["reason"] == "no fp16 kernels here"


def test_markdown_is_one_table() -> None:
    lines = [line for line in markdown_report(report(RAN, UNAVAILABLE)).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1


def test_pages_give_times_as_multiples_of_the_first() -> None:
    page = markdown_report(report(RAN, RAN))
    heading, _, first, second = (line.split(" | ") for line in page.splitlines() if line.startswith("|"))
    column = heading.index("time")
    assert (first[column], second[column]) == ("1.00", "1.00")
    assert "ms p50" not in heading and "tiles/s" not in page


def test_int8_names_its_rest_only_where_that_is_not_fp32() -> None:
    assert Variant("openvino", Precision.INT8).label == "int8"
    assert Variant("openvino", Precision.INT8, Precision.BF16).label == "int8+bf16"


@pytest.mark.parametrize(
    ("precision", "device", "flags", "is_warned"),
    [
        (Precision.INT8, "cpu", ("avx2",), True),
        (Precision.INT8, "cpu", ("avx2", "avx_vnni"), False),
        (Precision.FP32, "cpu", ("avx2",), False),
        (Precision.INT8, "gpu", ("avx2",), False),
    ],
)
def test_int8_on_a_cpu_that_saturates_has_a_caveat(
    precision: Precision, device: str, flags: tuple[str, ...], is_warned: bool
) -> None:
    machine = Machine("Linux 6 x86_64", "3.11", "a cpu", 2, 8_000_000_000, flags)
    warnings = caveats(replace(SPEC, requested=precision, device=device), machine)
    assert ["VNNI" in warning for warning in warnings] == [True] * is_warned


def test_equal_remarks_of_one_runtime_are_said_once() -> None:
    rows = [replace(UNAVAILABLE, variant=Variant("torch", precision), reason="absent") for precision in Precision]
    assert remarks(rows) == ["torch fp32, bf16, fp16, int8: absent"]


def test_a_benchmark_in_which_nothing_ran_gives_each_reason_once() -> None:
    report(RAN, UNAVAILABLE).require_one_ran()
    with raises(RuntimeUnavailable, found=("no fp16 kernels here",)):
        report(UNAVAILABLE, UNAVAILABLE).require_one_ran()


def test_test_pictures_that_failed_are_named() -> None:
    report(RAN).require_all_scored()
    failed = HrScores.from_pictures(SCORES.pictures, [FailedPicture("d.png", "torn"), FailedPicture("c.png", "empty")])
    row = replace(RAN, quality=Quality(math.inf, 3, failed))
    with raises(FrameError, found=("c.png", "d.png")) as caught:
        report(row).require_all_scored()
    assert "c.png" in caught.value.problem and "empty" in caught.value.problem


def test_a_report_shows_the_fastest_variant_in_one_line() -> None:
    slower = replace(
        RAN, variant=Variant("torch", Precision.FP32), latency=StageLatency(*[Latency.from_samples([7])] * 4)
    )
    network = "convnet-tiny x2, tile 16x16"
    fastest = "fastest openvino fp32, 5.00 ms a tile"
    assert repr(report(slower, RAN, UNAVAILABLE)) == f"<BenchReport {network}: {fastest}; 2 of 3 variants ran>"
    assert repr(report(UNAVAILABLE)) == f"<BenchReport {network}: not timed; 0 of 1 variants ran>"


def test_a_variant_that_failed_or_ran_in_another_precision_is_not_called_the_fastest() -> None:
    failed = replace(RAN, self_test=SelfTest(RAN.variant, results=(GoldenResult("a.png", 10.0, 40.0),)))
    in_fp32 = replace(RAN, variant=Variant("openvino", Precision.INT8))
    assert "not timed" in repr(report(failed, in_fp32))


def test_notebooks_show_the_table_with_all_text_escaped() -> None:
    page = report(RAN, replace(UNAVAILABLE, reason="no <b>fp16</b> & no kernels"))._repr_html_()
    table = re.findall(r"<tr>.*?</tr>", page)
    assert len(table) == 2
    assert re.findall(r"<td[^>]*>(.*?)</td>", table[1])[:3] == ["*", "openvino", "fp32"]
    assert "no &lt;b&gt;fp16&lt;/b&gt; &amp; no kernels" in page
    assert "<b>fp16" not in page
