"""Times of layers, of what each layer was made of, and of which layers it reads."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sr_edge.errors import RuntimeUnavailable, UnknownNameError
from sr_edge.runtimes.engine.layer_times import LayerTime, ProfiledGraph, numbered_name, numbers_in, shortest
from sr_edge.runtimes.measure.layer_times import layer_times, runtimes_with_layer_times
from tests.expected_errors import raises
from tests.runtimes.here import require_runtime


def profiled(device: str = "cpu") -> ProfiledGraph:
    """A convolution that fuses with its activation, and a transposed product."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[1,8,32,32] x) => (float[1,32,32,8] y)
        { a = Conv(x, weight) b = Relu(a) c = Transpose<perm = [0, 2, 3, 1]>(b) y = MatMul(c, matrix) }"""
    )
    for name, shape in (("weight", (8, 8, 1, 1)), ("matrix", (8, 8))):
        value = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    for index, node in enumerate(model.graph.node):
        node.name = numbered_name(index)
    feed = {"x": np.ones((1, 8, 32, 32), np.float32)}
    return ProfiledGraph(model.SerializeToString(), feed, {"y": 3}, device=device, threads=1, runs=2, warm_up=1)


@pytest.mark.parametrize("runtime", runtimes_with_layer_times())
def test_layers_know_their_nodes_and_what_they_read(runtime: str) -> None:
    require_runtime(runtime)
    times = layer_times(runtime, profiled())
    layers = {layer.name: layer for layer in times.layers}
    assert len(layers) == len(times.layers)
    assert all(source in layers for layer in times.layers for source in layer.inputs)
    (fused,) = (layer for layer in times.layers if 0 in layer.nodes)
    assert 1 in fused.nodes
    assert fused.ms > 0.0
    (product,) = (layer for layer in times.layers if 3 in layer.nodes)
    assert fused in _before(product, layers)


def _before(layer: LayerTime, layers: dict[str, LayerTime]) -> list[LayerTime]:
    sources = [layers[name] for name in layer.inputs]
    return sources + [earlier for source in sources for earlier in _before(source, layers)]


def test_a_fused_layer_of_onnxruntime_consists_of_the_nodes_between_its_tensors() -> None:
    require_runtime("onnxruntime")
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[4,8] x) => (float[4,8] y)
      <float two = {1.4142135}, float one = {1}, float half = {0.5}>
      { a = Div(x, two) b = Erf(a) c = Add(b, one) d = Mul(x, c) e = Mul(d, half) y = Neg(e) }"""
    model = onnx.parser.parse_model(text)
    for index, node in enumerate(model.graph.node):
        node.name = numbered_name(index)
    graph = ProfiledGraph(model.SerializeToString(), {"x": np.ones((4, 8), np.float32)}, {}, threads=1, runs=1)
    (gelu,) = (layer for layer in layer_times("onnxruntime", graph).layers if layer.operator == "Gelu")
    assert sorted(gelu.nodes) == [0, 1, 2, 3, 4]


def test_runtimes_that_report_none_and_devices_without_them() -> None:
    with raises(RuntimeUnavailable, found="tensorrt", wanted=tuple(runtimes_with_layer_times())):
        layer_times("tensorrt", profiled())
    with raises(UnknownNameError, found="other"):
        layer_times("other", profiled())
    for runtime in runtimes_with_layer_times():
        require_runtime(runtime)
        with raises(RuntimeUnavailable, found="npu"):
            layer_times(runtime, profiled("npu"))


def test_numbers_in_names_and_shortest_times() -> None:
    assert numbers_in(f"{numbered_name(12)}/MatMulScaleFusion/,{numbered_name(3)},{numbered_name(12)},Constant_7") == (
        12,
        3,
    )
    assert shortest([{"a": 2.0, "b": 1.0}, {"a": 1.0}]) == {"a": 1.0, "b": 1.0}
