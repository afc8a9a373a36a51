"""`load_network` understands whatever is named as a network, and names what is not one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from sr_edge.bundle import sha256_of
from sr_edge.errors import ExportError, NotDeployable, TileError, UsageError, WeightsError
from sr_edge.export.export import export_onnx
from sr_edge.export.graph.file_network import FileNetwork
from sr_edge.export.graph.metadata import Form
from sr_edge.model_sources import NetworkChoice, load_network
from sr_edge.models import LoadedModel, bundled_weights, load_model
from sr_edge.models.reference import reference_frame
from sr_edge.spec import Control, FrameFormat, ModelCard, TileSpec
from tests.expected_errors import raises
from tests.model_sources.small_files import SCALE, small_file

TILE = TileSpec(16, 24)
ANY_SIZE = ("height", "width")


def weights() -> Path:
    path = bundled_weights("convnet-tiny", 2)
    assert path is not None
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("float.onnx", {}),
        ("dynamic.onnx", {"size": ANY_SIZE, "batch": "batch"}),
        ("half.onnx", {"size": ANY_SIZE, "dtype": TensorProto.FLOAT16}),
        ("range255.onnx", {"value_range": 255.0}),
        ("nhwc.onnx", {"frames": "NHWC"}),
        ("bytes.onnx", {"frames": "uint8"}),
        ("batch4.onnx", {"batch": 4}),
        ("external.onnx", {"external": True}),
        ("old.onnx", {"opset": 11}),
        ("two.onnx", {"second_output": True}),
        ("luma.onnx", {"channels": 1}),
    ],
)
def test_files_of_every_form_are_exported_and_equal_to_themselves(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    path = small_file(tmp_path / name, **options)
    network = load_network(NetworkChoice(str(path)), TILE)
    report = export_onnx(network, TILE, tmp_path / "out.onnx")
    card, metadata = report.metadata.card, report.metadata
    assert report.parity.passed and report.parity.reference == name
    assert report.parity.max_abs_error < 1e-5
    assert (card.scale, card.weights_sha256, metadata.form) == (SCALE, sha256_of(path), Form.IMPORTED)
    assert card.input_range == (255.0 if name in ("range255.onnx", "bytes.onnx") else 1.0)
    assert (metadata.tile, metadata.io, metadata.torch_version) == (TILE, FrameFormat.FLOAT_NCHW, "")
    (image,) = onnx.load(report.path).graph.input
    assert [dim.dim_value for dim in image.type.tensor_type.shape.dim] == [1, card.channels, 16, 24]


def test_what_was_changed_is_in_the_card_and_in_the_remarks(tmp_path: Path) -> None:
    path = small_file(tmp_path / "half.onnx", ANY_SIZE, dtype=TensorProto.FLOAT16)
    network = load_network(NetworkChoice(str(path)))
    assert network.architecture == ""
    assert any("fp16" in remark for remark in network.remarks)
    assert network.card.weights_source.startswith("half.onnx; ")
    assert all(remark.removeprefix("half.onnx: ") in network.card.weights_source for remark in network.remarks)


def test_the_reference_of_a_half_precision_file_computes_in_float32(tmp_path: Path) -> None:
    half = load_network(NetworkChoice(str(small_file(tmp_path / "half.onnx", dtype=TensorProto.FLOAT16))))
    full = load_network(NetworkChoice(str(small_file(tmp_path / "full.onnx"))))
    frame = np.random.default_rng(0).integers(0, 65536, (16, 24, 3), np.uint16)
    of_half, of_full = (reference_frame(network, frame, {}).astype(int) for network in (half, full))
    assert 0 < np.abs(of_half - of_full).max() < 100  # the weights are rounded to fp16, but pictures are not


def test_blue_may_come_first(tmp_path: Path) -> None:
    path = small_file(tmp_path / "small.onnx")
    image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    rgb, bgr = (load_network(NetworkChoice(str(path), channel_order=order)) for order in ("rgb", "bgr"))
    assert torch.equal(bgr.module(image), rgb.module(image.flip(1)).flip(1))
    assert not torch.equal(bgr.module(image), rgb.module(image))
    assert export_onnx(bgr, TILE, tmp_path / "bgr.onnx").parity.passed
    assert "BGR" in bgr.card.weights_source and "BGR" not in rgb.card.weights_source


def test_a_file_of_one_size_has_it_as_its_tile_and_is_tried_at_others(tmp_path: Path) -> None:
    path = small_file(tmp_path / "small.onnx")
    assert load_network(NetworkChoice(str(path))).tile == TILE
    other = TileSpec(32, 16)
    network = load_network(NetworkChoice(str(path)), other)
    assert any("16x24 opened" in remark for remark in network.remarks)
    assert export_onnx(network, other, tmp_path / "other.onnx").parity.passed
    with raises(TileError, found=TileSpec(2, 2), wanted=TILE):
        load_network(NetworkChoice(str(path)), TileSpec(2, 2))


def test_a_file_of_one_size_runs_on_whole_images_where_it_computes_the_same(tmp_path: Path) -> None:
    fixed, dynamic = (
        load_network(NetworkChoice(str(small_file(tmp_path / f"{size[0]}.onnx", size)))).module
        for size in ((16, 24), ANY_SIZE)
    )
    image = torch.rand(1, 3, 16, 40, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(fixed(image), dynamic(image), atol=1e-6)
    with raises(WeightsError, found=TileSpec(2, 2), wanted=TILE):
        fixed(image[..., :2, :2])


def test_an_exported_file_keeps_its_card(tmp_path: Path) -> None:
    model = load_model("convnet-tiny", 2)
    first = export_onnx(model, TILE, tmp_path / "first.onnx", io=FrameFormat.UINT8_NHWC)
    again = load_network(NetworkChoice(str(first.path)))
    assert again.card == first.metadata.card
    with raises(UsageError, found=3, wanted=2):
        load_network(NetworkChoice(str(first.path), 3))
    assert export_onnx(again, TILE, tmp_path / "again.onnx").parity.passed


@pytest.mark.parametrize(
    ("option", "choice"),
    [
        ("--weights", {"weights": Path("other.pth")}),
        ("--random-weights", {"random_weights": True}),
        ("--arch", {"arch": "mine:network"}),
        ("--blend", {"blend": ("other.pth=0.5",)}),
        ("--bake", {"bake": {"alpha": 1.0}}),
    ],
)
def test_options_of_pytorch_networks_are_refused_with_a_file(
    option: str, choice: dict[str, Any], tmp_path: Path
) -> None:
    path = small_file(tmp_path / "small.onnx")
    with raises(UsageError, found=(option,)):
        load_network(NetworkChoice(str(path), **choice))


def test_options_of_files_are_refused_with_a_name_and_a_wrong_scale_with_a_file(tmp_path: Path) -> None:
    with raises(UsageError, found="bgr", wanted="rgb"):
        load_network(NetworkChoice("convnet-tiny", 2, channel_order="bgr"))
    path = small_file(tmp_path / "small.onnx")
    assert load_network(NetworkChoice(str(path), 2)).card.scale == 2
    with raises(ExportError, found=2, wanted=3):
        load_network(NetworkChoice(str(path), 3))


def test_the_content_of_a_file_decides_and_not_its_suffix(tmp_path: Path) -> None:
    graph = small_file(tmp_path / "graph.pth")
    assert isinstance(load_network(NetworkChoice(str(graph))).module, FileNetwork)
    shutil.copy(weights(), tmp_path / "weights.onnx")
    assert load_network(NetworkChoice(str(tmp_path / "weights.onnx"))).architecture == "convnet-tiny"
    with raises(UsageError, found=graph, wanted="a checkpoint"):
        load_network(NetworkChoice("convnet-tiny", 2, weights=graph))
    with raises(WeightsError):
        load_network(NetworkChoice(str(weights()), blend=(f"{graph}=0.5",)))


def test_bundles_and_quantized_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.sredge").mkdir()
    (tmp_path / "x.sredge" / "manifest.json").write_text("{}")
    with raises(UsageError, found=str(tmp_path / "x.sredge")):
        load_network(NetworkChoice(str(tmp_path / "x.sredge")))
    with raises(NotDeployable, found="int8"):
        load_network(NetworkChoice(str(quantized(small_file(tmp_path / "small.onnx")))))


def quantized(path: Path) -> Path:
    """The file with its features quantized."""
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.02), "scale"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(100), "zero"))
    conv = next(node for node in model.graph.node if node.name == "/tail/Conv")
    index = list(model.graph.node).index(conv)
    conv.input[0] = "restored"
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["bent", "scale", "zero"], ["quantized"]),
        onnx.helper.make_node("DequantizeLinear", ["quantized", "scale", "zero"], ["restored"]),
    ]
    body = [*model.graph.node[:index], *nodes, *model.graph.node[index:]]
    del model.graph.node[:]
    model.graph.node.extend(body)
    onnx.save(model, path)
    return path


def test_other_kinds_of_networks_are_loaded_as_before(tmp_path: Path) -> None:
    assert load_network(NetworkChoice("convnet-tiny", 2)).card.name == "convnet-tiny"
    assert load_network(NetworkChoice(None, weights=weights())).card.scale == 2
    factory = f"{__name__.rpartition('.')[0]}.test_load_network:doubling"
    assert load_network(NetworkChoice(None, arch=factory, input_range=255.0)).card.input_range == 255.0


class Dial(torch.nn.Module):
    """Doubles the size and scales the brightness by its control."""

    controls = (Control("gain", 1.0, 0.0, 2.0),)

    def forward(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, scale_factor=2) * gain


def test_the_controls_of_an_exported_file_are_kept_and_compared_at_their_extremes(tmp_path: Path) -> None:
    card = ModelCard(name="dial", scale=2, parameters=0, controls=Dial.controls)
    first = export_onnx(LoadedModel(Dial().eval(), card), TILE, tmp_path / "first.onnx")
    again = load_network(NetworkChoice(str(first.path)))
    image = torch.full((1, 3, 16, 24), 0.5)
    assert float(again.module(image, torch.tensor([0.5])).max()) == 0.25
    assert float(again.module(image).max()) == 0.5
    report = export_onnx(again, TILE, tmp_path / "again.onnx")
    assert report.metadata.card.controls == Dial.controls
    assert [patch.patch for patch in report.parity.patches if "gain=2" in patch.patch]


def doubling() -> torch.nn.Module:
    return torch.nn.Upsample(scale_factor=2)
