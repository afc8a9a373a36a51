"""Layer by layer: the node that was changed is the one that is named, whatever passes put around it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sr_edge.errors import ExportError
from sr_edge.export.checks.float16 import run_float16
from sr_edge.export.checks.layer_diff import InstrumentedModel, LayerComparison, compare_layers
from sr_edge.export.graph.inputs import Tensor, Tensors
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.graph.patches import worst_case_patches
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.export.passes.fp32_islands import FORCED_RULES
from sr_edge.export.passes.uint8_io import wrap_uint8
from sr_edge.spec import TileSpec
from tests.expected_errors import raises

PLAIN = """g (float[1,3,6,6] x) => (float[1,3,6,6] y)
<float[3,3,1,1] w = {{1,0,0,0,1,0,0,0,1}}, float k = {{{k}}}>
{{ a = Conv(x, w)  b = Relu(a)  c = Mul(b, k)  d = Conv(c, w)  y = Add(d, x) }}"""

QUANTIZED = """g (float[1,3,6,6] x) => (float[1,3,6,6] y)
<float[3,3,1,1] w = {1,0,0,0,1,0,0,0,1}, float k = {2.0}, float s = {0.05}, int8 zero = {0}>
{ a = Conv(x, w)  b = Relu(a)  c = Mul(b, k)  levels = QuantizeLinear(c, s, zero)
  coarse = DequantizeLinear(levels, s, zero)  d = Conv(coarse, w)  y = Add(d, x) }"""

PATCH = np.random.default_rng(0).integers(0, 256, (1, 3, 6, 6)).astype(np.float32) / np.float32(255)


def graph(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


def compared(
    reference: onnx.ModelProto,
    candidate: onnx.ModelProto,
    tolerance: float = 1e-4,
    patch: npt.NDArray[np.float32] = PATCH,
) -> LayerComparison:
    return compare_layers(
        InstrumentedModel(reference, run_onnxruntime), InstrumentedModel(candidate, run_onnxruntime), patch, tolerance
    )


def first_apart(comparison: LayerComparison) -> str | None:
    return comparison.first_apart.name if comparison.first_apart else None


def test_a_graph_agrees_with_itself() -> None:
    comparison = compared(graph(PLAIN.format(k=2.0)), graph(PLAIN.format(k=2.0)), tolerance=0.0)
    assert [layer.name for layer in comparison.layers] == ["a", "b", "c", "d", "y"]
    assert comparison.first_apart is None


def test_the_first_layer_that_differs_is_named_with_its_error() -> None:
    comparison = compared(graph(PLAIN.format(k=2.0)), graph(PLAIN.format(k=2.2)))
    assert first_apart(comparison) == "c"
    changed = comparison.layers[2]
    assert changed.relative_error == pytest.approx(0.1, rel=1e-5)
    assert changed.max_abs == pytest.approx(2 * PATCH.max(), rel=1e-6)
    assert changed.max_abs_error == pytest.approx(0.2 * PATCH.max(), rel=1e-5)
    assert changed.added_error == changed.relative_error
    assert comparison.layers[3].input_error == changed.relative_error
    assert comparison.layers[3].added_error == pytest.approx(0.0, abs=1e-6)


def test_rounding_to_int8_shows_in_the_layer_that_reads_it_and_q_dq_are_passed_over() -> None:
    comparison = compared(graph(PLAIN.format(k=2.0)), graph(QUANTIZED))
    assert first_apart(comparison) == "d"
    assert comparison.left_out == {}
    backwards = compared(graph(QUANTIZED), graph(PLAIN.format(k=2.0)))
    assert [layer.name for layer in backwards.layers] == ["a", "b", "c", "d", "y"]
    assert backwards.layers[4].input_error == backwards.layers[3].relative_error


def test_an_fp16_graph_is_followed_through_its_casts(hot_attention_graph: onnx.ModelProto, tile: TileSpec) -> None:
    patch = worst_case_patches(tile)[1]
    full = InstrumentedModel(hot_attention_graph, run_onnxruntime)
    naive = to_fp16(hot_attention_graph, FORCED_RULES).model
    half = InstrumentedModel(naive, lambda model, feed: run_float16(model, feed).outputs)
    comparison = compare_layers(full, half, patch, tolerance=1e-2)
    assert comparison.first_apart is not None
    assert comparison.first_apart.name == "/norm/Pow"
    assert comparison.first_apart.relative_error == math.inf
    assert [layer.name for layer in comparison.layers][-1] == hot_attention_graph.graph.node[-1].name


def test_a_graph_of_uint8_frames_gets_the_patch_as_bytes(shuffle_graph: onnx.ModelProto, tile: TileSpec) -> None:
    patch = np.random.default_rng(1).integers(0, 256, (1, 3, tile.height, tile.width)).astype(np.float32)
    comparison = compared(shuffle_graph, wrap_uint8(shuffle_graph).model, 1e-5, patch / np.float32(255))
    assert len(comparison.layers) == len(shuffle_graph.graph.node)
    assert comparison.first_apart is None


SMOOTHED = """g (float[1,3,6,6] x) => (float[1,3,6,6] y)
<float[3,3,1,1] w = {{2,0,0,0,0.5,0,0,0,8}}, float[3,3,1,1] v = {{{v}}}, float k = {{2.0}}>
{{ a = Conv(x, w)  b = Relu(a)  c = Mul(b, k)  d = Conv(c, v)  y = Add(d, x) }}"""


def test_channels_at_another_scale_that_the_next_layer_takes_back_are_no_error() -> None:
    comparison = compared(graph(PLAIN.format(k=2.0)), graph(SMOOTHED.format(v="0.5,0,0,0,2,0,0,0,0.125")))
    assert comparison.first_apart is None
    assert [layer.name for layer in comparison.layers if layer.rescaled] == ["a", "b", "c"]
    assert comparison.layers[0].max_abs_error < 1e-6


def test_channels_at_another_scale_that_nobody_takes_back_are_one() -> None:
    comparison = compared(graph(PLAIN.format(k=2.0)), graph(SMOOTHED.format(v="0.5,0,0,0,2,0,0,0,0.25")))
    assert first_apart(comparison) == "a"
    assert not any(layer.rescaled for layer in comparison.layers)


def test_several_runs_give_what_one_gives() -> None:
    runs: list[int] = []

    def counted_run(model: onnx.ModelProto, feed: Tensors) -> Mapping[str, Tensor]:
        runs.append(len(model.graph.output))
        return run_onnxruntime(model, feed)

    reference, candidate = graph(PLAIN.format(k=2.0)), graph(PLAIN.format(k=2.2))
    one_by_one = compare_layers(
        InstrumentedModel(reference, counted_run),
        InstrumentedModel(candidate, run_onnxruntime),
        PATCH,
        1e-4,
        memory_bytes=1,
    )
    assert one_by_one == compared(reference, candidate)
    assert len(runs) == len(one_by_one.layers)


def test_nodes_that_the_other_graph_has_not_are_counted_with_the_reason() -> None:
    other = """g (float[1,3,6,6] x) => (float[1,3,6,6] y)
    <float[3,3,1,1] w = {1,0,0,0,1,0,0,0,1}> { a = Conv(x, w)  b = Abs(a)  y = Add(b, x) }"""
    comparison = compared(graph(PLAIN.format(k=2.0)), graph(other))
    assert [layer.name for layer in comparison.layers] == ["a", "y"]
    assert comparison.left_out == {
        "the other graph has no node of that name": 2,
        "Relu in the first graph is Abs in the other": 1,
    }


def test_graphs_without_a_common_layer_are_refused() -> None:
    other = "g (float[1,3,6,6] x) => (float[1,3,6,6] z) { z = Neg(x) }"
    with raises(ExportError, found={"the other graph has no node of that name": 5}):
        compared(graph(PLAIN.format(k=2.0)), graph(other))


def test_openvino_gives_the_same_inner_tensors(openvino_core: object) -> None:
    from sr_edge.runtimes.openvino.inner_outputs import run_outputs
    from sr_edge.spec import Precision

    model = graph(PLAIN.format(k=2.0))
    instrumented = InstrumentedModel(
        model, lambda more, feed: run_outputs(more.SerializeToString(), feed, Precision.FP32)
    )
    comparison = compare_layers(InstrumentedModel(model, run_onnxruntime), instrumented, PATCH, tolerance=1e-5)
    assert [layer.name for layer in comparison.layers] == ["a", "b", "c", "d", "y"]
    assert comparison.first_apart is None
