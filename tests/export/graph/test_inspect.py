"""The properties of ONNX files that sr-edge wrote, and of files from other tools."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from sr_edge.calibration.graph.load import graph_channels
from sr_edge.errors import ExportError
from sr_edge.export.export import export_onnx
from sr_edge.export.graph.inspect import OnnxProperties, read_onnx_properties
from sr_edge.export.graph.metadata import METADATA_KEY
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.export.passes.uint8_io import wrap_uint8
from sr_edge.models import LoadedModel
from sr_edge.spec import CHANNELS, FrameFormat, ModelCard, Precision, TileSpec
from tests.expected_errors import raises

FP32, FP16 = Precision.FP32, Precision.FP16


def written(model: onnx.ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "foreign.onnx"
    onnx.save(model, path)
    return path


def test_a_file_of_our_own_tells_its_card(small_taylor: LoadedModel, taylor_tile: TileSpec, tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    export_onnx(small_taylor, taylor_tile, path)
    properties = read_onnx_properties(path)
    assert properties.card.name == small_taylor.card.name
    assert (properties.tile, properties.precision, properties.io) == (taylor_tile, FP32, FrameFormat.FLOAT_NCHW)


def test_a_foreign_file_is_looked_at_and_run(shuffle_graph: onnx.ModelProto, tile: TileSpec, tmp_path: Path) -> None:
    card = ModelCard(name="foreign", scale=2, parameters=0)
    properties = read_onnx_properties(written(shuffle_graph, tmp_path))
    assert properties == OnnxProperties(card, tile, FP32, FP32, FrameFormat.FLOAT_NCHW)
    assert read_onnx_properties(written(to_fp16(shuffle_graph).model, tmp_path)).precision is FP16
    bytes_in = read_onnx_properties(written(wrap_uint8(shuffle_graph).model, tmp_path))
    assert (bytes_in.io, bytes_in.tile, bytes_in.card.scale) == (FrameFormat.UINT8_NHWC, tile, 2)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("is_uint8", [False, True])
def test_a_foreign_file_tells_its_channels(channels: int, is_uint8: bool, tmp_path: Path) -> None:
    text = f"g (float[1,{channels},8,6] a) => (float[1,{channels},8,6] y) {{ y = Neg(a) }}"
    graph = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    onnx.save(wrap_uint8(graph).model if is_uint8 else graph, tmp_path / "net.onnx")
    properties = read_onnx_properties(tmp_path / "net.onnx")
    assert (properties.card.channels, properties.card.scale) == (channels, 1)
    assert graph_channels(tmp_path / "net.onnx") == channels


def test_a_foreign_file_of_free_size_has_no_tile(tmp_path: Path) -> None:
    text = "g (float[1,12,h,w] x) => (float[1,3,H,W] y) { y = DepthToSpace<blocksize = 2>(x) }"
    with raises(ExportError, found=(1, 12), wanted=(1, CHANNELS)):
        read_onnx_properties(
            written(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'), tmp_path)
        )
    text = "g (float[n,3,h,w] x) => (float[n,3,H,W] y) <float[4] s = {1,1,3,3}> { y = Resize(x, , s) }"
    properties = read_onnx_properties(
        written(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'), tmp_path)
    )
    assert (properties.tile, properties.card.scale) == (None, 3)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("g (float[4] x) => (float[4] y) { y = Relu(x) }", {"found": (0, 1), "wanted": (1, 1)}),
        (
            "g (float[1,3,4,4] x) => (float[1,3,4,4] y, float[1,3,4,4] z) { y = Relu(x) z = Neg(x) }",
            {"found": (1, 2), "wanted": (1, 1)},
        ),
        ("g (float[1,2,4,4] x) => (float[1,2,4,4] y) { y = Relu(x) }", {"found": (1, 2), "wanted": (1, CHANNELS)}),
        ("g (float[1,3,4,4] x) => (float[1,1,4,4] y) { y = ReduceMax<axes=[1]>(x) }", {"found": (3, 1)}),
        ("g (float[4,3,4,4] x) => (float[4,3,4,4] y) { y = Relu(x) }", {"found": (4, 3), "wanted": (1, CHANNELS)}),
        (
            "g (double[1,3,4,4] x) => (double[1,3,4,4] y) { y = Relu(x) }",
            {"found": "DOUBLE", "wanted": ("FLOAT", "UINT8")},
        ),
        (
            "g (float[1,3,4,4] x) => (float[1,3,2,2] y) { y = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x) }",
            {"found": (1, 3, 2, 2)},
        ),
        (
            "g (float[1,3,4,4] x, float[1] a) => (float[1,3,4,4] y) { y = Add(x, a) }",
            {"found": (), "wanted": METADATA_KEY},
        ),
    ],
)
def test_what_is_no_super_resolution_network(text: str, fields: dict[str, object], tmp_path: Path) -> None:
    with raises(ExportError, **fields):
        read_onnx_properties(
            written(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'), tmp_path)
        )
