"""Loading float graphs: old opsets are raised, shared weights are recognised, several outputs are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_edge.calibration import CalibrationConfig, HeldOut, calibrate_within, quantize_onnx
from sr_edge.calibration.graph.load import load_graph, reads_as_it_is
from sr_edge.calibration.graph.probe import InstrumentedGraph
from sr_edge.calibration.graph.scale import graph_scale
from sr_edge.errors import CalibrationError
from tests.calibration.graphs import TILE, parsed, photo_like, random_weight
from tests.calibration.networks import export
from tests.expected_errors import raises


def test_an_opset_without_channel_scales_is_raised(tmp_path: Path) -> None:
    body = "a = Conv<pads = [1,1,1,1]>(x, w)  b = Relu(a)  y = Conv<pads = [1,1,1,1]>(b, w)"
    weight = random_weight(3, 3, 3, 3) / np.float32(5)
    onnx.save(parsed(body, {"w": weight}, output="float[1,3,24,24] y", opset=11), tmp_path / "old.onnx")
    patches = photo_like(8, 3)
    report = calibrate_within(
        tmp_path / "old.onnx", patches, [HeldOut(patch) for patch in patches], CalibrationConfig()
    )
    quantize_onnx(tmp_path / "old.onnx", report.calibration, tmp_path / "int8.onnx")
    assert onnx.load(tmp_path / "int8.onnx").opset_import[0].version == 13


def test_a_shared_weight_behind_an_identity_is_found(tmp_path: Path) -> None:
    body = "v = Identity(w)  a = Conv<pads = [1,1,1,1]>(x, w)  y = Conv<pads = [1,1,1,1]>(a, v)"
    onnx.save(parsed(body, {"w": np.ones((3, 3, 3, 3), np.float32)}), tmp_path / "shared.onnx")
    loaded = load_graph(tmp_path / "shared.onnx")
    assert [list(node.input) for node in loaded.graph.node] == [["x", "w"], ["a", "w"]]
    batch = photo_like(1, 3)[0]
    reference = InstrumentedGraph(onnx.load(tmp_path / "shared.onnx")).run(batch)[0]
    np.testing.assert_array_equal(InstrumentedGraph(loaded).run(batch)[0], reference)


def test_the_scale_is_found_by_running(tmp_path: Path) -> None:
    for name, scale in (("residual", 2), ("same size", 1)):
        export(name, tmp_path / "n.onnx")
        assert graph_scale(tmp_path / "n.onnx", TILE) == scale
    onnx.save(parsed("y = ReduceMean<axes = [2,3]>(x)", {}, output="float[1,3,1,1] y"), tmp_path / "mean.onnx")
    with raises(CalibrationError, found=(1, 3, 1, 1)):
        graph_scale(tmp_path / "mean.onnx", TILE)


def test_a_graph_of_several_outputs_is_refused_with_the_way_to_keep_one(tmp_path: Path) -> None:
    body = "y = Conv<pads = [1,1,1,1]>(x, w)  half = Relu(y)"
    path = tmp_path / "two.onnx"
    model = parsed(body, {"w": random_weight(3, 3, 3, 3)}, output="float[1,3,24,24] y, float[1,3,24,24] half")
    onnx.save(model, path)
    with raises(CalibrationError, found=("y", "half"), wanted=1) as caught:
        load_graph(path)
    assert f"onnx.utils.extract_model({str(path)!r}, 'one.onnx', ['x'], ['y'])" in str(caught.value.remedy)
    onnx.utils.extract_model(str(path), str(tmp_path / "one.onnx"), ["x"], ["y"])
    assert len(load_graph(tmp_path / "one.onnx").graph.node) == 1


BRANCH = """half = Constant <value_float = 0.5> () mean = ReduceMean <keepdims = 0> (x) bright = Greater (mean, half)
    y = If (bright) <then_branch = bright () => (float[1,3,8,8] a) { a = Relu (x) },
    else_branch = dark () => (float[1,3,8,8] b) { b = Neg (x) }>"""


@pytest.mark.parametrize(
    ("signature", "body", "is_read"),
    [
        ("(float[1,3,8,8] x) => (float[1,3,8,8] y)", "y = Relu (x)", True),
        ("(float[n,1,h,w] x) => (float[n,1,h,w] y)", "y = Relu (x)", True),
        ("(uint8[1,8,8,3] x) => (uint8[1,8,8,3] y)", "f = Cast <to = 1> (x) y = Cast <to = 2> (f)", True),
        ("(float16[1,3,8,8] x) => (float16[1,3,8,8] y)", "y = Relu (x)", False),
        ("(float[1,3,8,8] x) => (float[1,3,8,8] y)", "h = Cast <to = 10> (x) y = Cast <to = 1> (h)", False),
        ("(float[1,8,8,3] x) => (float[1,8,8,3] y)", "y = Relu (x)", False),
        ("(float[4,3,8,8] x) => (float[4,3,8,8] y)", "y = Relu (x)", False),
        ("(float[1,3,8,8] x) => (float[1,3,8,8] y, float[1,3,8,8] z)", "y = Relu (x) z = Neg (x)", False),
        ("(float[1,3,8,8] x) => (float[1,3,8,8] y)", BRANCH, False),
    ],
)
def test_which_files_are_read_as_they_are(signature: str, body: str, is_read: bool, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {signature} {{ {body} }}')
    onnx.save(model, tmp_path / "net.onnx")
    assert reads_as_it_is(tmp_path / "net.onnx") is is_read
