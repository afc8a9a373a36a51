"""ONNX files run wherever bundles run: as a temporary bundle, in sessions, and in the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import sr_edge as face
from sr_edge.errors import BundleError, ExportError, PrecisionUnavailable, TileError, UsageError
from sr_edge.export import export_onnx
from sr_edge.export.graph.metadata import Form, GraphMetadata, write_metadata
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.frames import Batch, Picture, batch_from_frame, frame_from_batch
from sr_edge.image_files import read_picture, write_picture
from sr_edge.model_sources import open_deployed, open_frame_session, open_model, open_session
from sr_edge.models import load_model
from sr_edge.models.reference import reference_frame
from sr_edge.spec import Control, FrameFormat, ModelCard, Precision, TileSpec
from tests.command_line import SrEdge
from tests.expected_errors import raises
from tests.model_sources.onnx_variants import Step, around, copied, saved, sized

TILE = TileSpec(24, 24)


@pytest.fixture(scope="module")
def files(model: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of dynamic size from elsewhere, our own exports, and a bundle; read only."""
    folder = tmp_path_factory.mktemp("files")
    saved(model, folder / "net.onnx")
    network = load_model("convnet-tiny", 2)
    export_onnx(network, TILE, folder / "own.onnx")
    export_onnx(network, TILE, folder / "own.fp16.onnx", precision=Precision.FP16)
    export_onnx(network, TILE, folder / "own.uint8.onnx", io=FrameFormat.UINT8_NHWC)
    saved(with_control(), folder / "control.onnx")
    torch.save({"weight": torch.zeros(2)}, folder / "net.pth")
    return folder


def with_control() -> onnx.ModelProto:
    """A network of scale 1 that multiplies the picture by its control `alpha`, with a model card."""
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,24,24] input, float[1] alpha) '
        "=> (float[1,3,24,24] output) { output = Mul(input, alpha) }"
    )
    card = ModelCard("dimmer", 1, 0, controls=(Control("alpha", 1.0, 0.0, 1.0),))
    metadata = GraphMetadata(card, Form.STATIC, Precision.FP32, FrameFormat.FLOAT_NCHW, TILE, "0", "0")
    write_metadata(graph, metadata)
    return graph


def test_a_temporary_bundle_lives_as_long_as_it_is_open(files: Path) -> None:
    with open_model(files / "net.onnx", tile=TILE) as bundle:
        (artifact,) = bundle.manifest.artifacts
        assert (artifact.precision, artifact.io, artifact.shape) == (
            Precision.FP32,
            FrameFormat.FLOAT_NCHW,
            (1, 3, 24, 24),
        )
        assert bundle.file(artifact).is_file()
        assert bundle.manifest.card.name == "net"
        assert bundle.path == files / "net.onnx"
        bundle.verify()
        folder = bundle.folder
    assert not folder.exists()
    assert (files / "net.onnx").is_file()


def test_a_file_that_cannot_be_used_leaves_nothing_behind(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with raises(TileError):
        open_model(files / "own.onnx", tile=TileSpec(2, 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_session_computes_what_pytorch_computes(runtime: str, files: Path, network: nn.Module) -> None:
    pytest.importorskip(runtime)
    batch = np.random.default_rng(0).random((1, 3, 96, 96), np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(batch)).numpy()
    with face.open_session(files / "net.onnx", runtime) as session:
        np.testing.assert_allclose(cast(Batch, session.run(batch)), expected, atol=1e-4)
        assert (session.spec.scale, session.spec.ran) == (2, Precision.FP32)


def test_a_frame_session_outlives_the_temporary_bundle(files: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    expected = reference_frame(load_model("convnet-tiny", 2), frame, {})
    for name in ("own.onnx", "own.uint8.onnx"):
        with open_frame_session(files / name, "onnxruntime") as session:
            from_levels = cast(Any, session.run(frame))
            from_floats = cast(Any, session.run(batch_from_frame(frame)))
        assert np.abs(from_levels.astype(int) - expected).max() <= 1
        assert np.abs(frame_from_batch(from_floats).astype(int) - expected).max() <= 1


def test_a_half_precision_file_of_ours_also_runs_in_fp32(files: Path) -> None:
    with open_model(files / "own.fp16.onnx") as bundle:
        assert [artifact.precision for artifact in bundle.manifest.artifacts] == [Precision.FP16, Precision.FP32]
        with open_session(bundle, "onnxruntime") as session:
            assert session.spec.ran is Precision.FP32


def test_a_half_precision_file_of_others_keeps_its_own_graph(files: Path, tmp_path: Path) -> None:
    half = to_fp16(onnx.shape_inference.infer_shapes(sized(onnx.load(files / "net.onnx"), 1, 3, 24, 24))).model
    with open_model(saved(half, tmp_path / "half.onnx")) as bundle:
        assert [artifact.precision for artifact in bundle.manifest.artifacts] == [Precision.FP16, Precision.FP32]


def test_controls_of_a_file_of_ours_can_be_set(files: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    with open_session(files / "control.onnx", "onnxruntime") as session:
        np.testing.assert_array_equal(session.run(frame), frame)
        np.testing.assert_array_equal(session.run(frame, {"alpha": 0.0}), np.zeros_like(frame))


def test_the_options_of_onnx_files_are_refused_for_a_file_that_states_them(files: Path) -> None:
    with raises(UsageError, found="--input-range"):
        open_model(files / "own.onnx", input_range=255.0)
    with raises(UsageError, found="--channel-order"):
        open_model(files / "own.onnx", channel_order="bgr")


def test_a_checkpoint_is_named(files: Path) -> None:
    for opened in (open_model, open_deployed):
        with raises(BundleError, found="checkpoint"):
            opened(files / "net.pth")
    with raises(BundleError, found="ONNX file"):
        open_deployed(files / "net.onnx")


def test_a_network_that_returns_nan(model: onnx.ModelProto, tmp_path: Path) -> None:
    broken = around(model, [], [("Mul", (np.float32("nan"),), {})])
    with raises(ExportError, wanted="finite values"):
        open_model(saved(broken, tmp_path / "nan.onnx"), input_range=1.0)


def test_a_random_network(model: onnx.ModelProto, tmp_path: Path) -> None:
    noisy = copied(model)
    last = noisy.graph.output[0].name
    for node in noisy.graph.node:
        node.output[:] = ["clean" if name == last else name for name in node.output]
    noisy.graph.node.append(onnx.helper.make_node("RandomUniformLike", ["clean"], ["noise"], high=0.5))
    noisy.graph.node.append(onnx.helper.make_node("Add", ["clean", "noise"], [last]))
    with raises(ExportError, found=("RandomUniformLike",)):
        open_model(saved(noisy, tmp_path / "noisy.onnx"), input_range=1.0)


def test_a_runtime_that_cannot_run_the_file(files: Path) -> None:
    with raises(PrecisionUnavailable):
        open_session(files / "own.onnx", "torch")


def test_upscale_writes_what_pytorch_computes(sr_edge: SrEdge, files: Path, tmp_path: Path) -> None:
    levels = np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)
    write_picture(tmp_path / "in.png", Picture(levels))
    path = files / "net.onnx"
    outcome = sr_edge(
        "upscale", path, tmp_path / "in.png", tmp_path / "out.png", "--tile", "24", "--runtime", "onnxruntime"
    )
    assert outcome.code == 0, outcome.stderr
    assert outcome.stderr.count("net.onnx: range 0-1") == 1
    written = read_picture(tmp_path / "out.png").pixels
    assert np.abs(written.astype(int) - reference_frame(load_model("convnet-tiny", 2), levels, {})).max() <= 1


def test_inspect_shows_what_is_in_a_file(sr_edge: SrEdge, files: Path) -> None:
    outcome = sr_edge("inspect", files / "net.onnx", "--json")
    assert outcome.code == 0, outcome.stderr
    page = json.loads(outcome.stdout)["onnx"]
    assert page["opset"] == 17
    assert page["tile"] is None
    assert page["nodes"] == len(onnx.load(files / "net.onnx").graph.node)
    assert page["input"] == {
        "name": "picture",
        "dtype": "float32",
        "layout": "NCHW",
        "shape": ["n", 3, "h", "w"],
        "value_range": 1.0,
        "channel_order": "rgb",
    }
    assert page["card"]["scale"] == 2
    assert any("0-1" in change for change in page["changes"])
    assert "net x2" in sr_edge("inspect", files / "net.onnx").stdout


def test_selftest_compares_the_runtimes_with_the_file(sr_edge: SrEdge, files: Path) -> None:
    arguments = ("--runtimes", "onnxruntime", "--precisions", "fp32", "--tile", "24", "--json")
    outcome = sr_edge("selftest", files / "net.onnx", *arguments)
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["passed"] is True


def test_compare_finds_the_range_and_fixes_the_tile(sr_edge: SrEdge, files: Path, tmp_path: Path) -> None:
    to_255: Step = ("Mul", (np.float32(255),), {})
    to_1: Step = ("Mul", (np.float32(1 / 255),), {})
    wide = saved(around(onnx.load(files / "net.onnx"), [to_1], [to_255]), tmp_path / "wide.onnx")
    options = ("--tile", "24", "--patches", "2", "--no-layers", "--json")
    outcome = sr_edge("compare", "convnet-tiny", wide, *options)
    assert outcome.code == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["max_abs_error"] < 1e-5
    assert report["tile"] == {"height": 24, "width": 24}
    assert report["candidate"]["file"] == "wide.onnx"
    wrong = json.loads(sr_edge("compare", "convnet-tiny", wide, "--input-range", "1", *options).stdout)
    assert wrong["max_abs_error"] > 0.01


def test_bench_reports_a_census(sr_edge: SrEdge, files: Path) -> None:
    options = (
        "--runtimes",
        "torch,onnxruntime",
        "--precisions",
        "fp32",
        "--runs",
        "1",
        "--no-memory",
        "--tile",
        "24x24",
    )
    outcome = sr_edge("bench", files / "net.onnx", *options, "--census", "--json")
    assert outcome.code == 0, outcome.stderr
    rows = {row["variant"]["runtime"]: row for row in json.loads(outcome.stdout)["rows"]}
    assert rows["torch"]["census"] is None
    assert {time["kind"] for time in rows["onnxruntime"]["census"]["operators"]} >= {"arithmetic"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("upscale", "{bundle}", "{files}", "b", "--input-range", "255"), 2),
        (("bench", "{bundle}", "--tile", "24"), 2),
        (("bench", "{files}/net.onnx", "--tile", "24x24", "--runtimes", "torch", "--census"), 1),
        (("bench", "{files}/net.onnx", "--tile", "24x24", "--runs", "0", "--census"), 2),
        (("evaluate", "{bundle}", "--hr", ".", "--channel-order", "bgr"), 2),
        (("inspect", "{bundle}", "--tile", "24"), 2),
        (("stream", "{files}/net.onnx", "test:24x24@30", "--input-range", "2"), 2),
        (("upscale", "{files}/net.pth", "a.png", "b.png"), 1),
        (("compile", "{files}/net.onnx"), 1),
        (("export-triton", "{files}/net.onnx", "{files}/repository"), 1),
        (("inspect", "{files}/absent.onnx"), 1),
        (("compare", "{bundle}", "{bundle}", "--input-range", "1"), 2),
        (("compare", "convnet-tiny", "{bundle}", "--channel-order", "bgr"), 2),
    ],
)
def test_options_and_files_that_do_not_fit(
    arguments: tuple[str, ...], code: int, sr_edge: SrEdge, files: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "a.sredge"
    bundle.mkdir()
    outcome = sr_edge(*(text.format(bundle=bundle, files=files) for text in arguments))
    assert outcome.code == code, outcome.stderr
    assert outcome.error


@pytest.mark.parametrize("precision", [None, Precision.FP32])
def test_a_float_precision_without_int8_layers_is_refused(precision: Precision | None, files: Path) -> None:
    with raises(UsageError, found=Precision.FP32, wanted=Precision.INT8):
        open_session(files / "net.onnx", "onnxruntime", precision, float_precision=Precision.BF16)
