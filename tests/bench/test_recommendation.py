"""What deploy says to run: measured, within the budget, and never faster by chance."""

from __future__ import annotations

import ast
import inspect
import math
from dataclasses import replace
from pathlib import Path

import pytest

from sr_edge.bench import BenchReport, Environment, GoldenResult, HrScores, Quality, Row, SelfTest, Variant
from sr_edge.bench.recommendation import Recommendation, recommend, recommended_engines
from sr_edge.model_sources import open_upscaler
from sr_edge.runtimes import Machine, SessionSpec
from sr_edge.spec import FrameFormat, ModelCard, Precision, TileSpec

TILE = TileSpec(16, 16)
FP32, BF16, INT8 = Precision.FP32, Precision.BF16, Precision.INT8
ROUNDS = 20
BUNDLE = Path("my nets/tiny.sredge")


def row(
    precision: Precision,
    ms: float,
    cost_db: float | None = 0.0,
    *,
    float_precision: Precision = FP32,
    runtime: str = "openvino",
    ran: Precision | None = None,
    golden_db: float = 60.0,
    swing: float = 0.0,
    rounds: int = ROUNDS,
) -> Row:
    """A variant of which every other round is longer by that share, and the rounds between shorter."""
    variant = Variant(runtime, precision, float_precision)
    times = tuple(ms * (1.0 + (swing if index % 2 else -swing)) for index in range(rounds))
    spec = SessionSpec(
        runtime, "1", "cpu", precision, ran or precision, float_precision, FrameFormat.FLOAT_NCHW, TILE, 2, 2, 1.0, 1
    )
    test = SelfTest(variant, ran or precision, (GoldenResult("golden/input0.png", golden_db, 35.0),))
    quality = Quality(math.inf, 3, cost_db=cost_db)
    return Row(variant, spec, quality=quality, self_test=test, rounds_ms=times)


def report(*rows: Row, architecture: str = "convnet-tiny") -> BenchReport:
    machine = Machine("Linux", "3.11", "a cpu", 2, 8_000_000_000, ("avx2",))
    environment = Environment(machine, {}, None, "", 0.5, "2026-01-01T00:00:00+00:00")
    return BenchReport(ModelCard(architecture, 2, 10), TILE, environment, ROUNDS, 3, rows)


def advice(*rows: Row, max_drop_db: float = 0.05) -> Recommendation:
    (recommendation,) = recommend(report(*rows), max_drop_db, BUNDLE)
    return recommendation


def label(recommendation: Recommendation) -> str:
    assert recommendation.variant is not None, recommendation.summary
    return recommendation.variant.label


def test_the_fastest_within_the_budget_with_numbers_and_ways_to_run_it() -> None:
    int8 = (row(INT8, 2.5, 0.031, float_precision=BF16), row(INT8, 3.0, 0.030))
    recommendation = advice(row(FP32, 10.0), row(BF16, 4.0, 0.004), *int8)
    assert label(recommendation) == "int8+bf16"
    assert recommendation.cost_db == 0.031
    assert recommendation.summary == (
        "run int8+bf16 (costs 0.031 dB, 0.05 allowed): int8 takes 1.20 times as long (1.20 to 1.20); "
        "bf16 takes 1.60 times as long (1.60 to 1.60); fp32 takes 4.00 times as long (4.00 to 4.00)"
    )
    assert recommendation.command == (
        "sr-edge upscale 'my nets/tiny.sredge' IN OUT --runtime openvino --precision int8 --float-precision bf16"
    )
    assert recommendation.python == (
        "sr_edge.open_upscaler('my nets/tiny.sredge', runtime='openvino', precision='int8', float_precision='bf16')"
    )
    call = ast.parse(recommendation.python, mode="eval").body
    assert isinstance(call, ast.Call)
    assert {keyword.arg for keyword in call.keywords} <= set(inspect.signature(open_upscaler).parameters)


def test_int8_that_is_not_faster_is_not_recommended() -> None:
    recommendation = advice(row(FP32, 10.0), row(BF16, 4.0, 0.004), row(INT8, 4.4, 0.03, float_precision=BF16))
    assert label(recommendation) == "bf16"
    assert recommendation.summary.startswith(
        "INT8 is not faster than bf16 here; run bf16 (costs 0.004 dB, 0.05 allowed): "
    )


def test_int8_that_is_faster_by_less_than_the_spread_is_no_choice() -> None:
    recommendation = advice(
        row(FP32, 10.0), row(BF16, 4.0, 0.004), row(INT8, 3.9, 0.03, float_precision=BF16, swing=0.1)
    )
    assert label(recommendation) == "bf16"


def test_of_equally_fast_ones_the_most_exact_is_taken() -> None:
    recommendation = advice(row(FP32, 4.1, swing=0.1), row(BF16, 4.0, 0.01))
    assert label(recommendation) == "fp32"
    recommendation = advice(
        row(FP32, 10.0), row(INT8, 2.5, 0.02, swing=0.1), row(INT8, 2.45, 0.04, float_precision=BF16)
    )
    assert label(recommendation) == "int8"


def test_what_costs_more_than_the_budget_is_named_and_not_taken() -> None:
    rows = (row(FP32, 10.0), row(BF16, 4.0, 0.004), row(INT8, 2.5, 0.081, float_precision=BF16))
    recommendation = advice(*rows)
    assert label(recommendation) == "bf16"
    assert "int8+bf16 takes 0.6" in recommendation.summary
    assert "but costs 0.081 dB" in recommendation.summary
    assert label(advice(*rows, max_drop_db=0.1)) == "int8+bf16"


def test_a_float_over_the_budget_does_not_stand_in_the_way_of_int8() -> None:
    recommendation = advice(row(FP32, 10.0), row(BF16, 2.0, 0.2), row(INT8, 3.0, 0.02))
    assert label(recommendation) == "int8"


def test_originals_are_named_and_decide_nothing() -> None:
    def scored(of: Row, psnr_db: float) -> Row:
        assert of.quality is not None
        return replace(of, quality=replace(of.quality, hr=HrScores(psnr_db, 0.9, ())))

    recommendation = advice(scored(row(FP32, 10.0), 37.0), scored(row(INT8, 2.5, 0.02), 36.9))
    assert recommendation.summary.startswith("run int8 (costs 0.020 dB, 0.05 allowed; 0.100 dB on your originals): ")


def test_fp32_needs_no_budget() -> None:
    assert label(advice(row(FP32, 10.0, 1e-7), row(BF16, 4.0, 0.004), max_drop_db=0.0)) == "fp32"


def test_what_is_computed_in_another_precision_or_fails_its_test_is_never_taken() -> None:
    recommendation = advice(row(FP32, 10.0), row(INT8, 5.0, 0.02, ran=FP32), row(BF16, 2.0, 0.01, golden_db=20.0))
    assert label(recommendation) == "fp32"
    assert "int8 takes 0.5" in recommendation.summary and "but is computed in fp32" in recommendation.summary
    assert "but misses the golden frames" in recommendation.summary
    nothing = advice(row(FP32, 10.0, golden_db=20.0), row(BF16, 4.0, None))
    assert nothing.variant is None
    assert (
        nothing.summary == "nothing to recommend: fp32 misses the golden frames; bf16 could not be compared with fp32"
    )
    assert nothing.command == ""


@pytest.mark.parametrize(("rounds", "beginning"), [(1, "timed for 1 round,"), (4, "timed for 4 rounds,")])
def test_few_rounds_recommend_nothing(rounds: int, beginning: str) -> None:
    recommendation = advice(row(FP32, 10.0, rounds=rounds), row(INT8, 2.0, 0.01, rounds=rounds))
    assert recommendation.variant is None
    assert recommendation.summary.startswith(beginning)


def test_every_runtime_has_its_own_and_the_fastest_comes_first() -> None:
    rows = [
        row(FP32, 10.0),
        row(INT8, 2.5, 0.02),
        row(FP32, 20.0, runtime="torch"),
        row(FP32, 9.0, runtime="onnxruntime"),
    ]
    absent = Row(Variant("tensorrt", FP32), reason="no GPU")
    recommendations = recommend(report(*rows, absent), 0.05, BUNDLE, threads=2)
    assert [(each.runtime, label(each)) for each in recommendations] == [
        ("openvino", "int8"),
        ("onnxruntime", "fp32"),
        ("torch", "fp32"),
    ]
    assert recommendations[0].command.endswith("--runtime openvino --precision int8 --threads 2")
    assert "threads=2)" in recommendations[0].python


def test_a_network_of_ones_own_is_named_where_torch_would_build_it() -> None:
    of = report(row(FP32, 10.0, runtime="torch"), architecture="own_network:factory")
    (recommendation,) = recommend(of, 0.05, BUNDLE)
    assert recommendation.command.endswith("--trust own_network:factory")
    assert "options={'architecture': 'own_network:factory'}" in recommendation.python
    assert recommendation.summary == "run fp32 (costs 0.000 dB, 0.05 allowed)"
    assert recommended_engines(of, [recommendation], 0.05, "deploy") == ()


def test_rows_that_were_not_timed_recommend_nothing() -> None:
    assert recommend(report(replace(row(FP32, 1.0), rounds_ms=())), 0.05, BUNDLE) == ()
