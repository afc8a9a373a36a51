"""Ranges are those of the tensors in ONNX Runtime, within bounded memory; bad inputs are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import nn

from sr_edge.calibration import TensorRange, graph_tile
from sr_edge.calibration.data.patch import StepProgress
from sr_edge.calibration.graph.im2col import quantizable_layers
from sr_edge.calibration.graph.load import graph_channels, is_dynamic
from sr_edge.calibration.graph.probe import InstrumentedGraph
from sr_edge.calibration.ranges.collect import OBSERVED_BYTES, collect_ranges
from sr_edge.calibration.ranges.observers import MinMaxObserver
from sr_edge.errors import CalibrationError
from sr_edge.export.passes.cleanup import name_nodes
from sr_edge.export.passes.tracing import trace
from sr_edge.export.passes.uint8_io import wrap_uint8
from sr_edge.frames import Batch
from sr_edge.spec import TileSpec
from tests.calibration.graphs import parsed
from tests.expected_errors import raises

TENSORS = ["input", "/Relu_output_0", "/Concat_output_0"]


def ranges_of(
    model: onnx.ModelProto,
    batches: Sequence[Batch],
    progress: StepProgress | None = None,
    observed_bytes: int = OBSERVED_BYTES,
) -> dict[str, TensorRange]:
    model = name_nodes(model).model
    layers = list(quantizable_layers(model).values())
    passes = collect_ranges(model, layers, batches, MinMaxObserver, progress, observed_bytes)
    return {name: entry.range for results in passes for name, entry in results.items()}


def test_ranges_are_the_extremes_over_all_batches(mixed_graph: onnx.ModelProto, batches: list[Batch]) -> None:
    ranges = ranges_of(mixed_graph, batches)
    graph = InstrumentedGraph(mixed_graph, TENSORS)
    values = [graph.run(batch) for batch in batches]
    for index, name in enumerate(TENSORS):
        seen = np.stack([outputs[index] for outputs in values])
        assert (ranges[name].lowest, ranges[name].highest) == (seen.min(), seen.max())
    assert ranges["input"].highest == max(batch.max() for batch in batches)


def test_several_passes_give_what_one_pass_gives(mixed_graph: onnx.ModelProto, batches: list[Batch]) -> None:
    in_one_pass = ranges_of(mixed_graph, batches)
    steps: list[tuple[int, int]] = []
    in_many = ranges_of(mixed_graph, batches, lambda *step: steps.append(step), observed_bytes=1)
    assert in_many == in_one_pass
    total = len(in_one_pass) * (len(batches) + 1)
    assert steps == [(done, total) for done in range(1, total + 1)]


def test_a_uint8_graph_takes_the_same_float_patches(mixed_graph: onnx.ModelProto, batches: list[Batch]) -> None:
    rounded = [np.rint(batch * 255.0).astype(np.float32) / np.float32(255.0) for batch in batches]
    float_ranges = ranges_of(mixed_graph, rounded)
    uint8_ranges = ranges_of(wrap_uint8(mixed_graph).model, rounded)
    for name in TENSORS[1:]:
        assert uint8_ranges[name].highest == pytest.approx(float_ranges[name].highest, rel=1e-5)


@pytest.mark.parametrize(
    ("readers", "counts"),
    [
        ("y = Conv(wide, blind)", False),
        ("a = Conv(wide, blind)  b = Conv(wide, seeing)  y = Add(a, b)", True),
    ],
)
def test_a_channel_that_all_readers_multiply_by_zero_does_not_widen_the_range(readers: str, counts: bool) -> None:
    constants = {
        "gain": np.array([1000.0, 1.0], np.float32).reshape(1, 2, 1, 1),
        "blind": np.array([0.0, 1.0, 0.0, 2.0], np.float32).reshape(2, 2, 1, 1),
        "seeing": np.array([0.5, 1.0, 0.0, 2.0], np.float32).reshape(2, 2, 1, 1),
    }
    model = parsed(f"wide = Mul(input, gain)  {readers}", constants, "float[1,2,3,3] input")
    batch = np.full((1, 2, 3, 3), 0.5, np.float32)
    tensor_range = ranges_of(model, [batch])["wide"]
    assert tensor_range.highest == 500.0
    assert (tensor_range.clip > 1.0) is counts


def test_no_batch_is_refused(mixed_graph: onnx.ModelProto) -> None:
    with raises(CalibrationError, found=0, wanted=1):
        ranges_of(mixed_graph, [])


def test_a_batch_of_another_size_is_refused(mixed_graph: onnx.ModelProto) -> None:
    with raises(CalibrationError, found=(1, 3, 16, 24), wanted=(1, 3, 24, 24)):
        ranges_of(mixed_graph, [np.zeros((1, 3, 16, 24), np.float32)])


def test_values_that_are_not_finite_are_refused(mixed_graph: onnx.ModelProto, batches: list[Batch]) -> None:
    broken = batches[0].copy()
    broken[0, 0, 0, 0] = np.nan
    with raises(CalibrationError, found="input", wanted="finite values"):
        ranges_of(mixed_graph, [batches[1], broken])


class TestGraphTile:
    def test_a_static_graph_says_its_tile_in_both_layouts(self, mixed_graph: onnx.ModelProto, tmp_path: Path) -> None:
        onnx.save(mixed_graph, tmp_path / "float.onnx")
        onnx.save(wrap_uint8(mixed_graph).model, tmp_path / "uint8.onnx")
        assert graph_tile(tmp_path / "float.onnx") == graph_tile(tmp_path / "uint8.onnx") == TileSpec(24, 24)
        assert graph_channels(tmp_path / "float.onnx") == graph_channels(tmp_path / "uint8.onnx") == 3
        assert not is_dynamic(tmp_path / "float.onnx")

    def test_another_tile_than_the_graphs_is_refused(self, mixed_file: Path) -> None:
        with raises(CalibrationError, found=TileSpec(48, 48), wanted=TileSpec(24, 24)):
            graph_tile(mixed_file, TileSpec(48, 48))

    def test_a_dynamic_graph_needs_to_be_told(self, mixed_graph: onnx.ModelProto, tmp_path: Path) -> None:
        model = onnx.ModelProto()
        model.CopyFrom(mixed_graph)
        for axis, name in ((2, "height"), (3, "width")):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
        onnx.save(model, tmp_path / "dynamic.onnx")
        assert is_dynamic(tmp_path / "dynamic.onnx")
        assert graph_tile(tmp_path / "dynamic.onnx", TileSpec(48, 24)) == TileSpec(48, 24)
        with raises(CalibrationError, found=None, wanted="a tile size"):
            graph_tile(tmp_path / "dynamic.onnx")


def test_a_dynamic_graph_takes_patches_of_any_size(batches: list[Batch]) -> None:
    graph = trace(nn.Conv2d(3, 4, 3, padding=1), TileSpec(8, 8), dynamic=True)
    assert ranges_of(graph, batches)["input"].highest == max(batch.max() for batch in batches)
