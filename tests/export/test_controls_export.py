"""Controls in exported graphs: inputs of their own names in every form, type and frame format, or constants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from sr_edge.errors import ExportError
from sr_edge.export import Form, export_onnx, graph_digest, read_metadata
from sr_edge.export.checks.float16 import LOSS_BOUND_DB
from sr_edge.export.checks.parity import PARITY_BOUND, compare_with_network
from sr_edge.export.graph.inputs import feed_of
from sr_edge.export.graph.metadata import METADATA_KEY, graph_controls
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.graph.patches import check_patches
from sr_edge.export.passes.uint8_io import wrap_uint8
from sr_edge.models import LoadedModel
from sr_edge.models.controlled import control_tensors
from sr_edge.models.loading.load import bake
from sr_edge.spec import Control, FrameFormat, ModelCard, Precision, TileSpec
from tests.expected_errors import raises

TILE = TileSpec(12, 16)
CONTROLS = (Control("alpha", 1.0, 0.0, 2.0), Control("beta", 0.5, 0.0, 2.0))


class DialNet(nn.Module):
    """Two branches, each scaled by a control of its own."""

    controls = CONTROLS

    def __init__(self) -> None:
        super().__init__()
        self.smooth = nn.Conv2d(3, 8, 3, padding=1)
        self.sharp = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor, alpha: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
        if alpha is None or beta is None:
            alpha, beta = control_tensors(self.controls)
        return self.shuffle(self.last(alpha * self.smooth(x).relu() - beta * self.sharp(x).relu()))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    torch.manual_seed(0)
    return LoadedModel(DialNet().eval(), ModelCard("dial", 2, 100, controls=CONTROLS))


def picture() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).random((1, 3, TILE.height, TILE.width), np.float32)


def mistake_one_for_the_other(graph: onnx.ModelProto) -> None:
    swapped = {"alpha": "beta", "beta": "alpha"}
    for node in graph.graph.node:
        node.input[:] = [swapped.get(name, name) for name in node.input]


@pytest.mark.parametrize(
    ("form", "precision", "io"),
    [
        (Form.STATIC, Precision.FP32, FrameFormat.FLOAT_NCHW),
        (Form.TRACED, Precision.FP32, FrameFormat.UINT8_NHWC),
        (Form.STATIC, Precision.FP16, FrameFormat.UINT8_NHWC),
    ],
)
def test_every_kind_of_graph_takes_them(
    model: LoadedModel, tmp_path: Path, form: Form, precision: Precision, io: FrameFormat
) -> None:
    report = export_onnx(model, TILE, tmp_path / "dial.onnx", form=form, precision=precision, io=io)
    graph = onnx.load(report.path)
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.graph.input}
    assert list(shapes) == ["input", "alpha", "beta"]
    assert shapes["alpha"] == shapes["beta"] == [1]
    assert {value.type.tensor_type.elem_type for value in graph.graph.input[1:]} == {onnx.TensorProto.FLOAT}
    assert graph_controls(graph) == read_metadata(graph).card.controls == CONTROLS


def test_the_graph_is_the_network_at_any_setting(model: LoadedModel, tmp_path: Path) -> None:
    path = export_onnx(model, TILE, tmp_path / "dial.onnx").path
    answers = []
    for setting in ({"alpha": 1.0, "beta": 0.5}, {"alpha": 0.25, "beta": 2.0}, {"alpha": 2.0, "beta": 0.25}):
        output = run_onnxruntime(path, feed_of("input", picture(), setting))["output"]
        with torch.inference_mode():
            wanted = model.module(torch.from_numpy(picture()), *control_tensors(CONTROLS, setting)).numpy()
        np.testing.assert_allclose(output, wanted, atol=1e-6)
        answers.append(output)
    assert np.abs(answers[0] - answers[1]).max() > 0.01


def test_an_export_that_takes_the_controls_in_the_wrong_order_is_noticed(model: LoadedModel, tmp_path: Path) -> None:
    graph = onnx.load(export_onnx(model, TILE, tmp_path / "dial.onnx").path)
    compare_with_network(graph, model.module, check_patches(TILE)[:1]).require_within("")
    mistake_one_for_the_other(graph)
    parity = compare_with_network(graph, model.module, check_patches(TILE)[:1])
    assert parity.max_abs_error > PARITY_BOUND
    with raises(ExportError, wanted=PARITY_BOUND, remedy="look at the inputs"):
        parity.require_within("look at the inputs")


def test_the_digest_tells_the_controls_apart(model: LoadedModel, tmp_path: Path) -> None:
    graph = onnx.load(export_onnx(model, TILE, tmp_path / "dial.onnx").path)
    before = graph_digest(graph)
    mistake_one_for_the_other(graph)
    assert graph_digest(graph) != before


def test_a_dynamic_graph_keeps_them(model: LoadedModel, tmp_path: Path) -> None:
    path = export_onnx(model, TILE, tmp_path / "dial.onnx", dynamic=True).path
    feed = feed_of("input", np.zeros((1, 3, 9, 7), np.float32), {"alpha": 1.0, "beta": 1.0})
    assert run_onnxruntime(path, feed)["output"].shape == (1, 3, 18, 14)


def test_a_baked_control_is_no_input_but_a_constant(model: LoadedModel, tmp_path: Path) -> None:
    path = export_onnx(bake(model, {"beta": 2.0}), TILE, tmp_path / "baked.onnx").path
    graph = onnx.load(path)
    card = read_metadata(graph).card
    assert [value.name for value in graph.graph.input] == ["input", "alpha"]
    assert (card.controls, card.baked) == (CONTROLS[:1], {"beta": 2.0})
    free = export_onnx(model, TILE, tmp_path / "free.onnx").path
    wanted = run_onnxruntime(free, feed_of("input", picture(), {"alpha": 0.5, "beta": 2.0}))["output"]
    np.testing.assert_allclose(
        run_onnxruntime(path, feed_of("input", picture(), {"alpha": 0.5}))["output"], wanted, atol=1e-6
    )


def test_a_control_that_float16_cannot_stand_at_its_extreme_is_found(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wild = DialNet().eval()
    with torch.no_grad():
        wild.smooth.weight.mul_(1e-2)
        wild.get_parameter("smooth.bias").mul_(1e-2)
        wild.last.weight.mul_(1e-3)
    wild.controls = (Control("alpha", 1.0, 0.0, 1e5), CONTROLS[1])  # 1e5 is no float16
    model = LoadedModel(wild, ModelCard("wild", 2, 100, controls=wild.controls))
    with raises(ExportError, wanted=LOSS_BOUND_DB):
        export_onnx(model, TILE, tmp_path / "wild.onnx", precision=Precision.FP16)


def test_scalars_that_no_card_tells_of_are_refused() -> None:
    text = "g (float[1,3,2,2] a, float[1] alpha) => (float[1,3,2,2] y) { y = Mul(a, alpha) }"
    foreign = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    with raises(ExportError, found=(), wanted=METADATA_KEY):
        graph_controls(foreign)
    assert [value.name for value in wrap_uint8(foreign).model.graph.input] == ["a", "alpha"]
