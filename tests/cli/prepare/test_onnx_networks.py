"""`deploy`, `export` and `calibrate` take ONNX files as networks."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from sr_edge.bundle import ArtifactKind, open_bundle, sha256_of
from sr_edge.spec import Precision
from tests.cli.conftest import SrEdge
from tests.model_sources.small_files import small_file

QUICK = ("--runs", "1", "--no-memory", "--passes", "structure", "--runtimes", "torch,onnxruntime")
ANY_SIZE = ("height", "width")


def test_a_file_in_half_precision_becomes_a_bundle(sr_edge: SrEdge, pictures: Path, tmp_path: Path) -> None:
    path = small_file(tmp_path / "half.onnx", ANY_SIZE, dtype=TensorProto.FLOAT16)
    out = tmp_path / "half.sredge"
    outcome = sr_edge("deploy", path, "--images", pictures, "--tile", "24x32", *QUICK, "--all", "-o", out)
    assert outcome.code == 0, outcome.stderr
    assert "half.onnx: fp16 widened to fp32" in outcome.stdout
    assert "fp32 graph against half.onnx" in outcome.stdout
    assert outcome.stdout.count("no PyTorch network") == 1
    with open_bundle(out) as bundle:
        manifest = bundle.manifest
    precisions = {item.precision for item in manifest.artifacts}
    assert {Precision.FP32, Precision.FP16, Precision.INT8} <= precisions
    assert all(item.kind is ArtifactKind.ONNX for item in manifest.artifacts)
    assert (manifest.architecture, manifest.card.weights_sha256) == ("", sha256_of(path))
    assert manifest.card.tile_needs is not None
    assert sr_edge("selftest", out, "--runtimes", "onnxruntime").code == 0
    assert "half.onnx; fp16 widened to fp32" in sr_edge("inspect", out).stdout


def test_a_file_is_exported_in_another_form(sr_edge: SrEdge, tmp_path: Path) -> None:
    path = small_file(tmp_path / "nhwc.onnx", frames="NHWC", batch=4, value_range=255.0)
    out = tmp_path / "out.onnx"
    outcome = sr_edge("export", path, "-o", out, "--precision", "fp16", "--io", "uint8", "--tile", "auto")
    assert outcome.code == 0, outcome.stderr
    for part in (
        "nhwc x2, imported, fp16, uint8 io, tile 16x24",
        "fp32 graph against nhwc.onnx",
        "batch of 4",
        "0-255",
    ):
        assert part in outcome.stdout
    (picture,) = onnx.load(out).graph.input
    assert picture.type.tensor_type.elem_type == TensorProto.UINT8
    assert [dim.dim_value for dim in picture.type.tensor_type.shape.dim] == [1, 16, 24, 3]


def test_calibration_keeps_a_file_that_it_can_read_and_prepares_others(
    sr_edge: SrEdge, pictures: Path, tmp_path: Path
) -> None:
    fast = ("--images", pictures, "--runtime", "none", "--patches", "4", "--method", "min-max", "--json")
    for name, options, expected in (
        ("kept", {"value_range": 255.0}, "picture"),
        ("prepared", {"dtype": TensorProto.FLOAT16, "second_output": True}, "input"),
    ):
        out = tmp_path / f"{name}.int8.onnx"
        outcome = sr_edge("calibrate", small_file(tmp_path / f"{name}.onnx", **options), *fast, "-o", out)
        assert outcome.code == 0, outcome.stderr
        assert [value.name for value in onnx.load(out).graph.input] == [expected]
        remark = json.loads(outcome.stdout)["remark"]
        assert (
            "kept as they are; its values range from 0 to 255" if name == "kept" else "fp16 widened to fp32"
        ) in remark


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (("export", "FILE", "--form", "traced"), 2, ("--form", "FILE")),
        (("export", "FILE", "--dynamic"), 2, ("--dynamic", "FILE")),
        (("export", "FILE", "--tile", "2x2"), 2, ("16x24", "2x2")),
        (("export", "FILE", "--random-weights"), 2, ("--random-weights", "FILE")),
        (("export", "--weights", "FILE"), 2, ("--weights", "MODEL")),
        (("deploy", "BUNDLE"), 2, ("BUNDLE", "bundle", "upscale")),
        (("export", "BUNDLE"), 2, ("BUNDLE", "bundle", "upscale")),
        (("export", "ABSENT"), 1, ("ABSENT", "does not exist")),
        (("export", "EMPTY"), 1, ("EMPTY", "empty")),
        (("export", "mynet:build"), 2, ("mynet:build", "--arch mynet:build")),
        (("deploy", "mynet.py"), 2, ("mynet.py", "--arch mynet:FUNCTION")),
    ],
)
def test_what_is_refused_is_one_line_and_nothing_is_written(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, parts: tuple[str, ...]
) -> None:
    (tmp_path / "empty.onnx").touch()
    paths = {
        "FILE": small_file(tmp_path / "small.onnx"),
        "BUNDLE": bundle,
        "ABSENT": tmp_path / "absent.onnx",
        "EMPTY": tmp_path / "empty.onnx",
    }
    out = tmp_path / "out.onnx" if arguments[0] == "export" else tmp_path / "out.sredge"
    outcome = sr_edge(*(paths.get(argument, argument) for argument in arguments), "-o", out)
    assert outcome.code == code, outcome.error
    assert all(str(paths.get(part, part)) in outcome.error for part in parts), outcome.error
    assert not out.exists()


class Compact(nn.Module):
    """A small Compact network (SRVGGNetCompact)."""

    def __init__(self, features: int = 8, convolutions: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, features, 3, 1, 1), nn.PReLU(features)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(features, features, 3, 1, 1), nn.PReLU(features)]
        self.body = nn.Sequential(*layers, nn.Conv2d(features, 12, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pixel_shuffle(self.body(x), 2) + nn.functional.interpolate(x, scale_factor=2)


@pytest.mark.parametrize("command", ["calibrate", "inspect"])
def test_external_weights_that_were_cut_short_are_named(
    command: str, sr_edge: SrEdge, pictures: Path, tmp_path: Path
) -> None:
    path = small_file(tmp_path / "net.onnx", external=True)
    weights = tmp_path / "net.onnx.data"
    weights.write_bytes(weights.read_bytes()[:-1])
    options = ("--images", pictures, "-o", tmp_path / "int8.onnx") if command == "calibrate" else ()
    outcome = sr_edge(command, path, "--json", *options)
    error = json.loads(outcome.stdout)["error"]
    assert (outcome.code, error["type"], error["remedy"]) == (1, "ExportError", "copy both files again")


@pytest.mark.services
def test_a_half_precision_graph_of_the_newer_exporter_becomes_a_bundle(
    sr_edge: SrEdge, pictures: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = Compact().eval()
    with torch.no_grad():
        network.body[-1].weight.mul_(0.1)  # type: ignore[operator]
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.half(), (torch.rand(2, 3, 32, 40).half(),), dynamo=True, opset_version=18, dynamic_shapes=(sizes,)
        )
    assert program is not None
    program.save(tmp_path / "compact.onnx")
    out = tmp_path / "compact.sredge"
    options = ("--images", pictures, "--tile", "24x24", "--input-range", "1", *QUICK)
    outcome = sr_edge("deploy", tmp_path / "compact.onnx", *options, "-o", out)
    assert outcome.code == 0, outcome.stderr
    assert "opset 18 converted to 17" in outcome.stdout
    assert sr_edge("selftest", out, "--runtimes", "onnxruntime").code == 0


@pytest.mark.services
def test_the_luma_network_of_pytorchs_tutorial_becomes_a_bundle(
    sr_edge: SrEdge, shared_data: Path, tmp_path: Path
) -> None:
    path = shared_data.parent / "checkpoints" / "espcn_luma_x3_224.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    out = tmp_path / "espcn.sredge"
    originals = shared_data / "test" / "set5" / "hr"
    options = ("--precisions", "fp32", "--hr", originals, "--runs", "1", "--no-memory", "--runtimes", "onnxruntime")
    outcome = sr_edge("deploy", path, *options, "--json", "-o", out)
    assert outcome.code == 0, outcome.stderr
    (row,) = json.loads(outcome.stdout)["bench"]["rows"]
    assert row["quality"]["hr"]["psnr_y_db"] == pytest.approx(31.04, abs=0.01)
