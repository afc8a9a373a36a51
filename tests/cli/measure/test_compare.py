"""`sr-edge compare`: what it says of sides that are equal, that differ, and that cannot be compared."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from sr_edge.bench.compare.comparison import side_by_side
from sr_edge.export import export_onnx
from sr_edge.image_files import read_picture
from sr_edge.models import load_model
from sr_edge.models.recognition.library import is_installed
from sr_edge.runtimes import supports
from sr_edge.spec import Precision, TileSpec

SrEdge = Callable[..., Any]
"""The fixture of conftest.py; it gives code, stdout, stderr and the one error line."""

TINY = "convnet-tiny"
FEW = ("--patches", "2")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """convnet-tiny with the random weights of `bundle`: whole, damaged, in fp16, at another tile, at another scale."""
    folder = tmp_path_factory.mktemp("files")
    model = load_model(TINY, 2, random_weights=True)
    export_onnx(model, TileSpec(24, 24), folder / "model.onnx")
    export_onnx(model, TileSpec(24, 24), folder / "model.fp16.onnx", precision=Precision.FP16)
    export_onnx(model, TileSpec(32, 32), folder / "large.onnx")
    export_onnx(load_model(TINY, 3, random_weights=True), TileSpec(24, 24), folder / "x3.onnx")
    torch.save(model.module.state_dict(), folder / "weights.pth")
    _damage(folder / "model.onnx", folder / "damaged.onnx", 2.0)
    _damage(folder / "model.onnx", folder / "nan.onnx", float("nan"))
    return folder


def _damage(source: Path, target: Path, factor: float) -> None:
    """Multiplies the weight of the second convolution."""
    graph = onnx.load(source)
    second = [node for node in graph.graph.node if node.op_type == "Conv"][1]
    (weight,) = (tensor for tensor in graph.graph.initializer if tensor.name == second.input[1])
    weight.CopyFrom(onnx.numpy_helper.from_array(np.float32(factor) * onnx.numpy_helper.to_array(weight), weight.name))
    onnx.save(graph, target)


def compared(sr_edge: SrEdge, *arguments: str | Path) -> Any:
    """The JSON document of a comparison that went through."""
    outcome = sr_edge("compare", *arguments, *FEW, "--json")
    assert outcome.code == 0, outcome.stderr
    return json.loads(outcome.stdout)


def test_the_file_and_its_network_agree_layer_by_layer(sr_edge: SrEdge, files: Path, pictures: Path) -> None:
    report = compared(sr_edge, files / "model.onnx", files / "weights.pth", "--images", pictures)
    assert report["psnr_db"] is None or report["psnr_db"] > 80
    assert report["max_abs_error"] < 1e-5
    assert report["tile"] == {"height": 24, "width": 24}
    assert (report["reference"]["runtime"], report["candidate"]["runtime"]) == ("onnxruntime", "torch")
    layers = report["layers"]
    assert len(layers["layers"]) == len(onnx.load(files / "model.onnx").graph.node)
    assert layers["first_apart"] is None and layers["left_out"] == {}
    assert layers["exported"] == [str(files / "weights.pth")]


def test_the_layer_in_which_a_file_leaves_its_checkpoint_is_named(sr_edge: SrEdge, files: Path, pictures: Path) -> None:
    arguments = ("compare", files / "weights.pth", files / "damaged.onnx", "--images", pictures, *FEW)
    shown = sr_edge(*arguments).stdout
    convs = [node.name for node in onnx.load(files / "model.onnx").graph.node if node.op_type == "Conv"]
    assert f"first layer that differs (relative error above 0.001): {convs[1]}" in shown
    assert f"the layers of {files / 'weights.pth'} are those of its ONNX export, computed in onnxruntime" in shown


def test_the_layers_of_torch_in_bf16_are_in_no_graph(sr_edge: SrEdge, files: Path, pictures: Path) -> None:
    report = compared(sr_edge, files / "model.onnx", f"{files / 'weights.pth'}@bf16", "--images", pictures)
    assert report["layers"]["layers"] == []
    assert f"{files / 'weights.pth'}@bf16" in report["layers"]["reason"]


def test_without_pictures_those_that_come_along_are_taken(sr_edge: SrEdge, files: Path) -> None:
    report = compared(sr_edge, files / "model.onnx", f"{TINY}@torch", "--random-weights")
    assert len(report["patches"]) == 2
    assert report["max_abs_error"] < 1e-5


def test_the_damaged_layer_is_named_and_the_worst_patch_drawn(
    sr_edge: SrEdge, files: Path, pictures: Path, tmp_path: Path
) -> None:
    arguments = (
        files / "model.onnx",
        files / "damaged.onnx",
        "--images",
        pictures,
        "--picture",
        tmp_path / "worst.png",
    )
    report = compared(sr_edge, *arguments)
    names = [layer["name"] for layer in report["layers"]["layers"]]
    convs = [layer["name"] for layer in report["layers"]["layers"] if layer["operator"] == "Conv"]
    assert report["layers"]["first_apart"]["name"] == convs[1]
    assert len(names) == len(onnx.load(files / "model.onnx").graph.node)
    worst = min(patch["psnr_db"] for patch in report["patches"])
    assert report["patches"][report["worst"]]["psnr_db"] == worst
    picture = read_picture(tmp_path / "worst.png").pixels
    assert picture.shape[1] == 3 * picture.shape[0] + 16
    outcome = sr_edge("compare", *arguments, *FEW)
    assert f"first layer that differs (relative error above 0.001): {convs[1]}" in outcome.stdout
    assert "A | B | difference times" in outcome.stdout


def test_numbers_that_are_none_are_said_to_be_and_drawn(
    sr_edge: SrEdge, files: Path, pictures: Path, tmp_path: Path
) -> None:
    arguments = (files / "model.onnx", files / "nan.onnx", "--images", pictures, "--picture", tmp_path / "worst.png")
    report = compared(sr_edge, *arguments)
    assert report["psnr_db"] is None
    assert report["max_abs_error"] is None
    assert report["layers"]["first_apart"]["operator"] == "Conv"
    assert (tmp_path / "worst.png").is_file()
    outcome = sr_edge("compare", *arguments, *FEW, "--min-psnr", "20")
    assert outcome.code == 1
    assert "all channels not finite, luma not finite" in outcome.stdout


def test_the_precisions_of_a_bundle_and_runtimes(sr_edge: SrEdge, bundle: Path, pictures: Path) -> None:
    report = compared(sr_edge, bundle, f"{bundle}@int8:openvino", "--images", pictures)
    assert report["candidate"]["ran"] == "int8"
    assert 30 < report["psnr_db"] < 80
    errors = {layer["name"]: layer["relative_error"] for layer in report["layers"]["layers"]}
    assert 1e-4 < errors["/middle.1/Conv"] < 0.2
    assert report["layers"]["first_apart"] is None


def test_int8_in_onnxruntime_is_run_and_said_to_be_computed_in_fp32(
    sr_edge: SrEdge, bundle: Path, pictures: Path
) -> None:
    report = compared(sr_edge, bundle, f"{bundle}@int8", "--images", pictures)
    assert (report["candidate"]["requested"], report["candidate"]["ran"]) == ("int8", "fp32")
    assert any("computes this int8 file in fp32" in remark for remark in report["candidate"]["remarks"])


def test_fp16_in_real_float16_arithmetic(sr_edge: SrEdge, files: Path, pictures: Path) -> None:
    report = compared(sr_edge, files / "model.onnx", f"{files / 'model.fp16.onnx'}@float16", "--images", pictures)
    assert report["candidate"]["ran"] == "fp16"
    assert report["psnr_db"] > 50
    assert report["max_abs_error"] > 1e-5  # rounding must be visible, or nothing was rounded
    assert report["layers"]["first_apart"] is None
    assert report["layers"]["tolerance"] == 1e-2


def test_bf16_in_openvino(sr_edge: SrEdge, files: Path, pictures: Path) -> None:
    if not supports("openvino", Precision.BF16):
        pytest.skip("openvino computes no bf16 on this CPU")
    arguments = (f"{files / 'model.onnx'}@openvino", f"{files / 'model.onnx'}@bf16:openvino", "--images", pictures)
    report = compared(sr_edge, *arguments)
    assert report["candidate"]["ran"] == "bf16"
    assert report["psnr_db"] > 45
    assert report["max_abs_error"] > 1e-4  # rounding must be visible, or nothing was rounded
    assert report["layers"]["first_apart"] is None
    assert report["layers"]["tolerance"] == 5e-2


def test_min_psnr_decides_the_exit_code(sr_edge: SrEdge, files: Path, pictures: Path) -> None:
    arguments = ("compare", files / "model.onnx", files / "damaged.onnx", "--images", pictures, *FEW)
    assert sr_edge(*arguments, "--min-psnr", "1").code == 0
    outcome = sr_edge(*arguments, "--min-psnr", "100", "--json")
    assert outcome.code == 1
    convs = [node.name for node in onnx.load(files / "model.onnx").graph.node if node.op_type == "Conv"]
    assert "100 dB" in outcome.error and convs[1] in outcome.error
    assert json.loads(outcome.stdout)["patches"]


@pytest.mark.parametrize(
    ("first", "second", "options", "code", "values"),
    [
        ("{files}/absent.onnx", "{files}/model.onnx", (), 1, ("{files}/absent.onnx",)),
        ("{files}/absent.sredge", "{files}/model.onnx", (), 1, ("{files}/absent.sredge",)),
        ("{files}/absent.pth", "{files}/model.onnx", (), 1, ("{files}/absent.pth",)),
        ("no-such-model", "{files}/model.onnx", (), 2, ("'no-such-model'", TINY)),
        ("{files}/model.onnx", "{files}/model.onnx@int4", (), 2, ("'int4'", "int8+bf16")),
        ("{files}/model.onnx", "{files}/model.onnx@int8", (), 1, ("{files}/model.onnx ", "int8", "sr-edge calibrate")),
        ("{files}/model.onnx", "{files}/model.onnx@float16", (), 1, ("fp32", "--precision fp16")),
        ("{files}/model.onnx", "{files}/model.onnx@bf16", (), 1, ("onnxruntime", "bf16")),
        ("{files}/model.onnx", "{bundle}@fp16", (), 1, ("onnxruntime", "fp16")),
        ("{files}/model.onnx", "{files}/large.onnx", (), 2, ("24x24", "32x32")),
        ("{files}/model.onnx", "{files}/x3.onnx", (), 2, ("scale 2", "scale 3")),
        ("{files}/model.onnx", TINY, ("--random-weights", "--scale", "3"), 2, ("scale 2", "scale 3")),
        ("{files}/model.onnx", TINY, ("--tile", "32", "--random-weights"), 2, ("24x24", "32x32", "--tile")),
        ("{files}/weights.pth", TINY, ("--random-weights", "--scale", "2"), 2, ("weights.pth", "--random-weights")),
        (TINY, TINY, (), 2, ("--scale",)),
        ("{files}/model.onnx", "{bundle}", ("--set", "alpha=1"), 2, ("'alpha'", "--set alpha")),
        ("{files}/model.onnx", "{bundle}", ("--images", "{files}/absent"), 1, ("{files}/absent",)),
        ("{files}/model.onnx", "{bundle}", ("--picture", "{files}/absent/p.png"), 2, ("{files}/absent ",)),
        ("{files}/model.onnx", "{bundle}", ("--picture", "{files}/p.txt"), 2, ("{files}/p.txt", ".png")),
        ("{files}/model.onnx", "{bundle}", ("--patches", "0"), 2, ("--patches",)),
    ],
)
def test_sides_that_cannot_be_compared(
    sr_edge: SrEdge,
    files: Path,
    bundle: Path,
    first: str,
    second: str,
    options: tuple[str, ...],
    code: int,
    values: tuple[str, ...],
) -> None:
    before = sorted(files.iterdir())
    filled = [text.format(files=files, bundle=bundle) for text in (first, second, *options)]
    outcome = sr_edge("compare", *filled)
    assert outcome.code == code
    shown = [value.format(files=files) for value in values]
    assert [value for value in shown if value not in outcome.error] == [], outcome.error
    assert sorted(files.iterdir()) == before


def test_a_network_of_ones_own_is_a_side(
    sr_edge: SrEdge, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n"
        "def network():\n"
        "    return nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ("--scale", "2", "--tile", "16", "--images", pictures)
    report = compared(sr_edge, "own_net:network", "own_net:network@torch", *arguments)
    assert report["max_abs_error"] == 0.0
    assert report["psnr_db"] is None  # equal
    assert len(report["layers"]["exported"]) == 2 and report["layers"]["first_apart"] is None


def test_a_checkpoint_of_another_family_is_a_side(sr_edge: SrEdge, tmp_path: Path, pictures: Path) -> None:
    if not is_installed():
        pytest.skip("spandrel is not installed (extra spandrel)")
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.PReLU(8)]
    layers += [torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.PReLU(8), torch.nn.Conv2d(8, 12, 3, padding=1)]
    network = torch.nn.ModuleDict({"body": torch.nn.Sequential(*layers)})
    torch.save(network.state_dict(), tmp_path / "compact.pth")
    report = compared(sr_edge, tmp_path / "compact.pth", tmp_path / "compact.pth", "--tile", "16", "--images", pictures)
    assert report["max_abs_error"] == 0.0
    assert len(report["layers"]["exported"]) == 2 and report["layers"]["first_apart"] is None


def test_a_torchscript_program_cannot_be_a_side(sr_edge: SrEdge, files: Path, tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3, padding=1), torch.nn.PixelShuffle(2)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        torch.jit.trace(network, torch.zeros(1, 3, 32, 32)).save(tmp_path / "net.pt")  # type: ignore[no-untyped-call]
    outcome = sr_edge("compare", tmp_path / "net.pt", files / "model.onnx")
    assert (outcome.code, f"sr-edge export {tmp_path / 'net.pt'}" in outcome.error) == (2, True)


def test_the_difference_is_amplified_and_numbers_that_are_none_are_drawn() -> None:
    ours = np.zeros((1, 3, 4, 4), np.float32)
    theirs = ours.copy()
    theirs[0, 0, 0, 0], theirs[0, 1, 3, 3] = 0.01, np.nan
    drawn = side_by_side(ours, theirs, amplification=64)
    side = drawn.shape[0]
    assert drawn.shape == (side, 3 * side + 16, 3)
    difference = drawn[:, -side:]
    assert difference[0, 0].tolist() == [163, 0, 0]
    assert difference[-1, -1].tolist() == [0, 255, 0]
    assert not drawn[:, :side].any()
