"""Sensitivity ranks layers by the noise they make; the gate drops as few as the budget demands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_edge.calibration import Calibration, calibrate
from sr_edge.calibration.calibration import TensorRange
from sr_edge.calibration.collect import Batch
from sr_edge.calibration.gate import meet_budget
from sr_edge.calibration.graph import load_graph
from sr_edge.calibration.sensitivity import LayerNoise, rank_layers
from sr_edge.errors import CalibrationError, UsageError

Run = Callable[[onnx.ModelProto, Batch], Batch]
PsnrDb = Callable[[Batch, Batch], float]
Evaluate = Callable[[onnx.ModelProto], float]


@pytest.fixture(scope="module")
def model(mixed_file: Path) -> onnx.ModelProto:
    return load_graph(mixed_file)


@pytest.fixture(scope="module")
def calibration(mixed_file: Path, batches: list[Batch]) -> Calibration:
    return calibrate(mixed_file, batches[:4])


@pytest.fixture(scope="module")
def ranking(model: onnx.ModelProto, calibration: Calibration, batches: list[Batch]) -> tuple[LayerNoise, ...]:
    return rank_layers(model, calibration, batches[4:])


@pytest.fixture(scope="module")
def evaluate(model: onnx.ModelProto, batches: list[Batch], run_optimized: Run, psnr_db: PsnrDb) -> Evaluate:
    """PSNR against a noisy truth that the float graph reaches with 45 dB."""
    noise = np.random.default_rng(0).standard_normal((1, 3, 48, 48)) * 10 ** (-45 / 20)
    truth = (run_optimized(model, batches[7]) + noise).astype(np.float32)
    return lambda graph: psnr_db(run_optimized(graph, batches[7]), truth)


def test_the_ranking_holds_every_int8_layer_noisiest_first(
    calibration: Calibration, ranking: tuple[LayerNoise, ...]
) -> None:
    assert {noise.node for noise in ranking} == set(calibration.int8_nodes)
    powers = [noise.noise_power for noise in ranking]
    assert powers == sorted(powers, reverse=True)
    assert powers[-1] > 0.0


def test_a_layer_with_a_ruined_range_becomes_the_noisiest(
    model: onnx.ModelProto, calibration: Calibration, ranking: tuple[LayerNoise, ...], batches: list[Batch]
) -> None:
    assert ranking[0].node != "/fuse/Conv"
    assert rank_layers(model, ruined(calibration), batches[4:])[0].node == "/fuse/Conv"


def test_progress_counts_the_layers(model: onnx.ModelProto, calibration: Calibration, batches: list[Batch]) -> None:
    steps: list[tuple[int, int]] = []
    rank_layers(model, calibration, batches[:1], lambda done, total: steps.append((done, total)))
    assert steps == [(done, len(calibration.int8_nodes)) for done in range(1, len(calibration.int8_nodes) + 1)]


def test_a_generous_budget_keeps_every_layer_int8(
    model: onnx.ModelProto, calibration: Calibration, ranking: tuple[LayerNoise, ...], evaluate: Evaluate
) -> None:
    gated = meet_budget(model, calibration, ranking, evaluate, max_drop_db=10.0)
    assert gated.calibration == calibration
    assert gated.float_db == pytest.approx(45.0, abs=0.1)


def test_a_tight_budget_is_met_with_fewer_int8_layers(
    model: onnx.ModelProto, calibration: Calibration, evaluate: Evaluate, batches: list[Batch]
) -> None:
    bad = ruined(calibration)
    ranking = rank_layers(model, bad, batches[4:])
    full = meet_budget(model, bad, ranking, evaluate, max_drop_db=100.0)
    gated = meet_budget(model, bad, ranking, evaluate, max_drop_db=full.drop_db / 4)
    assert gated.drop_db <= full.drop_db / 4
    assert "/fuse/Conv" not in gated.calibration.int8_nodes
    reasons = {decision.node: decision.reason for decision in gated.calibration.decisions}
    assert reasons["/fuse/Conv"].startswith("kept float to lose at most")
    assert evaluate(model) - gated.int8_db == gated.drop_db


def test_the_gate_keeps_as_much_int8_as_the_budget_allows(
    model: onnx.ModelProto, calibration: Calibration, ranking: tuple[LayerNoise, ...]
) -> None:
    """An evaluation that loses 1 dB per INT8 layer, so that the right number is known."""
    layers = {noise.node for noise in ranking}

    def one_db_per_layer(graph: onnx.ModelProto) -> float:
        made_int8 = {n.name for n in graph.graph.node if n.name in layers and n.input[0].endswith("/int8")}
        return 40.0 - len(made_int8)

    for budget in range(1, len(ranking) + 1):
        gated = meet_budget(model, calibration, ranking, one_db_per_layer, max_drop_db=float(budget))
        assert len(gated.calibration.int8_nodes) == budget


def test_a_budget_that_nothing_meets_is_an_error(
    model: onnx.ModelProto, calibration: Calibration, ranking: tuple[LayerNoise, ...]
) -> None:
    def only_float_is_good(graph: onnx.ModelProto) -> float:
        return 20.0 if any(node.op_type == "QuantizeLinear" for node in graph.graph.node) else 40.0

    with pytest.raises(CalibrationError, match=r"no INT8 layer stays within 0\.05 dB"):
        meet_budget(model, calibration, ranking, only_float_is_good, max_drop_db=0.05)


def test_a_negative_budget_is_refused(
    model: onnx.ModelProto, calibration: Calibration, ranking: tuple[LayerNoise, ...]
) -> None:
    with pytest.raises(UsageError, match=r"-1\.0 dB asks INT8 to be better than float"):
        meet_budget(model, calibration, ranking, lambda graph: 0.0, max_drop_db=-1.0)


def ruined(calibration: Calibration) -> Calibration:
    """The same with a far too small range on the input of /fuse/Conv."""
    narrow = TensorRange(-0.02, 0.02, 0.02)
    return dataclasses.replace(calibration, ranges={**calibration.ranges, "/Concat_output_0": narrow})
