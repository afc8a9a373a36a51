from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from torch import nn

from sr_edge.errors import ExportError
from sr_edge.export.checks.rules import check_graph
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.export.passes.tracing import trace
from sr_edge.export.passes.uint8_io import wrap_uint8
from sr_edge.spec import TileSpec
from tests.expected_errors import raises

Frame = npt.NDArray[np.uint8]

INT8_CONV = """g (float[1,3,12,16] input) => (float[1,3,12,16] output)
<float s = {0.004}, int8 zero = {0}, float[3] ws = {0.01, 0.02, 0.01}, int8[3] wz = {0, 0, 0},
 int8[3,3,1,1] w = {90,2,3,4,50,6,7,8,90}>
{ q = QuantizeLinear(input, s, zero)  d = DequantizeLinear(q, s, zero)  dw = DequantizeLinear<axis = 0>(w, ws, wz)
  output = Conv(d, dw) }"""


@pytest.fixture(params=["fp32", "fp16", "int8"])
def float_graph(request: pytest.FixtureRequest, attention_graph: onnx.ModelProto) -> onnx.ModelProto:
    if request.param == "int8":
        return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {INT8_CONV}')
    return to_fp16(attention_graph).model if request.param == "fp16" else attention_graph


def random_frame(height: int = 12, width: int = 16) -> Frame:
    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)


def batch_from_frame(frame: Frame) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(frame.astype(np.float32).transpose(0, 3, 1, 2) * np.float32(1 / 255))


def frame_from_batch(batch: npt.NDArray[np.float32]) -> Frame:
    rounded: Frame = np.rint(np.clip(batch * np.float32(255), 0, 255)).astype(np.uint8)
    return rounded.transpose(0, 2, 3, 1)


def run_openvino(core: Any, model: onnx.ModelProto, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    network = core.read_model(model.SerializeToString())
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "2"})
    return np.array(compiled(value)[0])


def test_onnxruntime_is_bit_equal_to_frames_handled_on_the_host(float_graph: onnx.ModelProto) -> None:
    frame = random_frame()
    on_host = run_onnxruntime(float_graph, {"input": batch_from_frame(frame)})["output"].astype(np.float32)
    inside = run_onnxruntime(wrap_uint8(float_graph).model, {"input": frame})["output"]
    assert inside.dtype == np.uint8
    np.testing.assert_array_equal(inside, frame_from_batch(on_host))


def test_openvino_is_bit_equal_to_frames_handled_on_the_host(float_graph: onnx.ModelProto, openvino_core: Any) -> None:
    frame = random_frame()
    on_host = run_openvino(openvino_core, float_graph, batch_from_frame(frame)).astype(np.float32)
    inside = run_openvino(openvino_core, wrap_uint8(float_graph).model, frame)
    assert inside.dtype == np.uint8
    np.testing.assert_array_equal(inside, frame_from_batch(on_host))


def test_names_stay_and_the_graph_is_sound(float_graph: onnx.ModelProto) -> None:
    wrapped = wrap_uint8(float_graph).model
    onnx.checker.check_model(wrapped, full_check=True)
    assert check_graph(wrapped) == ()
    rows, columns = (dim.dim_value for dim in float_graph.graph.output[0].type.tensor_type.shape.dim[2:])
    for value, name, shape in (
        (wrapped.graph.input[0], "input", [1, 12, 16, 3]),
        (wrapped.graph.output[0], "output", [1, rows, columns, 3]),
    ):
        kind = value.type.tensor_type
        assert (value.name, kind.elem_type) == (name, onnx.TensorProto.UINT8)
        assert [dim.dim_value for dim in kind.shape.dim] == shape


def test_halves_round_to_even_and_the_range_is_clipped() -> None:
    text = "g (float[1,3,1,2] input) => (float[1,3,1,2] output) <float k = {0.5}> { output = Mul(input, k) }"
    wrapped = wrap_uint8(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')).model
    frame = np.array([[[[1, 3, 5], [7, 254, 255]]]], np.uint8)
    assert run_onnxruntime(wrapped, {"input": frame})["output"].ravel().tolist() == [0, 2, 2, 4, 127, 128]
    doubled = wrap_uint8(onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> {text.replace("0.5", "-2.0")}'
    )).model  # fmt: skip
    assert run_onnxruntime(doubled, {"input": frame})["output"].max() == 0


def test_a_dynamic_graph_takes_frames_of_any_size(shuffle_net: nn.Module, tile: TileSpec) -> None:
    wrapped = wrap_uint8(trace(shuffle_net, tile, dynamic=True)).model
    for height, width in ((8, 10), (5, 7)):
        output = run_onnxruntime(wrapped, {"input": random_frame(height, width)})["output"]
        assert output.shape == (1, 2 * height, 2 * width, 3)


def test_the_source_graph_is_left_alone(shuffle_graph: onnx.ModelProto) -> None:
    before = shuffle_graph.SerializeToString(deterministic=True)
    wrap_uint8(shuffle_graph)
    assert shuffle_graph.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("g (float[1,3,2,2] a, float[1,3,2,2] b) => (float[1,3,2,2] y) { y = Mul(a, b) }", 2),
        ("g (float[1,2,2,2] a) => (float[1,2,2,2] y) { y = Neg(a) }", ("FLOAT", (1, 2, 2, 2))),
        ("g (uint8[1,3,2,2] a) => (float[1,3,2,2] y) { y = Cast<to = 1>(a) }", ("UINT8", (1, 3, 2, 2))),
    ],
)
def test_graphs_that_are_not_one_float_picture_are_refused(text: str, found: object) -> None:
    with raises(ExportError, found=found):
        wrap_uint8(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'))
