"""NV12 frames in the graph: the conversion in ONNX Runtime and OpenVINO, and the network behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sr_edge.errors import ExportError, TileError, UsageError
from sr_edge.export.checks.rules import check_graph
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.export.passes.nv12_io import wrap_frames, wrap_nv12
from sr_edge.export.passes.uint8_io import wrap_uint8
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.nv12.frames import nv12_shape, rgb_from_nv12_tile
from sr_edge.spec import FrameFormat, TileSpec
from tests.expected_errors import raises
from tests.export.passes.test_uint8_io import INT8_CONV, run_openvino
from tests.nv12_frames import largest_difference, planes_of, random_nv12

TILE = TileSpec(12, 16)
IDENTITY = "g (float[1,3,{0},{1}] input) => (float[1,3,{0},{1}] output) {{ output = Identity(input) }}"
LUMA = "g (float[1,1,4,4] input) => (float[1,1,4,4] output) { output = Identity(input) }"


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


def packed_tile(seed: int = 0) -> npt.NDArray[np.uint8]:
    """A tile of arbitrary samples, also such as no camera gives."""
    return np.random.default_rng(seed).integers(0, 256, nv12_shape(TILE), np.uint8)


@pytest.fixture(params=["fp32", "fp16", "int8"])
def float_graph(request: pytest.FixtureRequest, attention_graph: onnx.ModelProto) -> onnx.ModelProto:
    if request.param == "int8":
        return parsed(INT8_CONV)
    return to_fp16(attention_graph).model if request.param == "fp16" else attention_graph


@pytest.mark.parametrize("colour", Nv12Colour)
def test_both_runtimes_give_the_pixels_of_the_reference(colour: Nv12Colour, openvino_core: Any) -> None:
    graph = wrap_nv12(parsed(IDENTITY.format(TILE.height, TILE.width)), colour).model
    packed = packed_tile()
    expected = rgb_from_nv12_tile(packed, colour)
    for output in (
        run_onnxruntime(graph, {"input": packed[np.newaxis]})["output"][0],
        run_openvino(openvino_core, graph, packed[np.newaxis])[0],
    ):
        assert output.dtype == np.uint8
        difference = np.abs(output.astype(int) - expected)
        assert difference.max() <= 1  # a value on the border between two levels
        assert (difference > 0).mean() < 0.005


def test_the_network_gets_what_the_uint8_graph_gets(float_graph: onnx.ModelProto) -> None:
    colour = Nv12Colour.BT601_FULL
    packed = planes_of(random_nv12(32, 48, colour)).cut(8, 16, TILE)
    inside = run_onnxruntime(wrap_nv12(float_graph, colour).model, {"input": packed[np.newaxis]})["output"]
    rgb = rgb_from_nv12_tile(packed, colour)
    before = run_onnxruntime(wrap_uint8(float_graph).model, {"input": rgb[np.newaxis]})["output"]
    assert largest_difference(inside, before) <= 1


def test_names_stay_and_the_graph_is_sound(float_graph: onnx.ModelProto) -> None:
    wrapped = wrap_nv12(float_graph, Nv12Colour.BT709_LIMITED).model
    onnx.checker.check_model(wrapped, full_check=True)
    assert check_graph(wrapped) == ()
    rows, columns = (dim.dim_value for dim in float_graph.graph.output[0].type.tensor_type.shape.dim[2:])
    for value, name, shape in (
        (wrapped.graph.input[0], "input", [1, *nv12_shape(TILE)]),
        (wrapped.graph.output[0], "output", [1, rows, columns, 3]),
    ):
        kind = value.type.tensor_type
        assert (value.name, kind.elem_type) == (name, onnx.TensorProto.UINT8)
        assert [dim.dim_value for dim in kind.shape.dim] == shape


def test_the_source_graph_is_left_alone(float_graph: onnx.ModelProto) -> None:
    before = float_graph.SerializeToString(deterministic=True)
    wrap_nv12(float_graph, Nv12Colour.BT709_FULL)
    assert float_graph.SerializeToString(deterministic=True) == before


def test_graphs_that_cannot_take_nv12_are_refused() -> None:
    colour = Nv12Colour.BT709_LIMITED
    with raises(TileError, found=TileSpec(3, 4)):
        wrap_nv12(parsed(IDENTITY.format(3, 4)), colour)
    with raises(TileError, found=None):
        wrap_nv12(parsed(IDENTITY.format('"h"', '"w"').replace('"', "")), colour)
    with raises(UsageError, found=1):
        wrap_nv12(parsed(LUMA), colour)
    with raises(ExportError):
        wrap_nv12(wrap_nv12(parsed(IDENTITY.format(4, 4)), colour).model, colour)


def test_each_frame_format_is_made_by_its_name() -> None:
    graph = parsed(IDENTITY.format(4, 4))
    assert wrap_frames(graph, FrameFormat.FLOAT_NCHW) is graph
    shapes = {}
    for io, colour in ((FrameFormat.UINT8_NHWC, None), (FrameFormat.NV12, Nv12Colour.BT709_FULL)):
        made = wrap_frames(graph, io, colour).graph.input[0].type.tensor_type.shape.dim
        shapes[io] = tuple(dim.dim_value for dim in made)
    assert shapes == {FrameFormat.UINT8_NHWC: (1, 4, 4, 3), FrameFormat.NV12: (1, 18, 12, 1)}
    for io, colour in ((FrameFormat.NV12, None), (FrameFormat.UINT8_NHWC, Nv12Colour.BT709_FULL)):
        with raises(UsageError, found=str(colour) if colour else None):
            wrap_frames(graph, io, colour)
