"""The passes that make graphs faster, as export applies and verifies them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_edge.errors import ExportError, UsageError
from sr_edge.export import ExportReport, accelerate_onnx, derive_onnx, export_onnx
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.speed_passes import SPEED_PASSES, Gain, SpeedPass, apply_passes, passes_for_all_targets
from sr_edge.models import LoadedModel, load_model
from sr_edge.spec import FrameFormat, PassChoice, Precision, TileSpec
from tests.expected_errors import raises
from tests.export.speed_passes import CANCELLING, CLIP, FAILING, MAX, WRONG

TILE = TileSpec(16, 20)


@pytest.fixture(scope="module")
def network() -> LoadedModel:
    return load_model("convnet-tiny", 2, random_weights=True)


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def export(network: LoadedModel, path: Path, *passes: SpeedPass) -> ExportReport:
    return export_onnx(network, TILE, path, passes=passes)


def test_every_choice_says_which_passes_need_no_measurement() -> None:
    every = (CLIP, MAX)
    assert passes_for_all_targets(PassChoice.NONE, every) == ()
    assert passes_for_all_targets(PassChoice.STRUCTURE, every) == (CLIP,)
    assert passes_for_all_targets(PassChoice.MEASURED, every) == (CLIP,)
    assert passes_for_all_targets(PassChoice.ALL, every) == every


def test_names_of_passes_differ_and_can_be_listed() -> None:
    names = [speed_pass.name for speed_pass in SPEED_PASSES]
    assert len(set(names)) == len(names)
    assert not any("," in name for name in names)
    assert all(isinstance(speed_pass.gain, Gain) and speed_pass.summary for speed_pass in SPEED_PASSES)


def test_only_passes_that_change_the_graph_are_named(network: LoadedModel, tmp_path: Path) -> None:
    report = export(network, tmp_path / "plain.onnx")
    graph, names = apply_passes(onnx.load(report.path), [MAX, CLIP])
    assert names == ("clip",)
    assert {node.op_type for node in graph.graph.node} >= {"Clip"}


def test_an_export_after_passes_is_compared_with_the_network(network: LoadedModel, tmp_path: Path) -> None:
    plain = export(network, tmp_path / "plain.onnx")
    report = export(network, tmp_path / "fast.onnx", CLIP, MAX)
    assert report.passes == (*plain.passes, "clip", "max")
    assert report.parity.passed
    assert operators(report.path)["Max"] == operators(plain.path)["Relu"] > 0
    assert report.remarks == plain.remarks


def test_a_pass_that_changes_the_output_is_left_out_and_named(network: LoadedModel, tmp_path: Path) -> None:
    plain = export(network, tmp_path / "plain.onnx")
    report = export(network, tmp_path / "fast.onnx", CLIP, WRONG, MAX)
    assert report.passes == (*plain.passes, "clip", "max")
    (remark,) = (remark for remark in report.remarks if remark not in plain.remarks)
    assert "the pass wrong" in remark


def test_a_pass_that_fails_does_not_prevent_the_export(network: LoadedModel, tmp_path: Path) -> None:
    report = export(network, tmp_path / "fast.onnx", FAILING, CLIP)
    assert report.passes[-1] == "clip"
    assert any("the pass failing" in remark and "KeyError" in remark for remark in report.remarks)


def test_a_pass_after_which_a_target_refuses_the_graph_is_left_out(network: LoadedModel, tmp_path: Path) -> None:
    def with_random_noise(model: onnx.ModelProto) -> onnx.ModelProto:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        node = onnx.helper.make_node("RandomNormal", [], ["noise"], shape=[1], name="noise")
        changed.graph.node.append(node)
        return changed

    noisy = SpeedPass("noisy", lambda model: PassResult(with_random_noise(model), True, "noise"), Gain.STRUCTURE, "-")
    report = export(network, tmp_path / "fast.onnx", noisy)
    assert "noisy" not in report.passes
    assert any("the pass noisy" in remark for remark in report.remarks)


def test_passes_are_refused_for_a_dynamic_graph(network: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "dynamic.onnx"
    with raises(UsageError, found=("clip",), wanted="none"):
        export_onnx(network, TILE, path, dynamic=True, passes=(CLIP,))
    assert not path.exists()
    assert export_onnx(network, TILE, path, dynamic=True, passes=()).metadata.tile is None


def test_a_graph_is_made_faster_without_tracing_it_again(network: LoadedModel, tmp_path: Path) -> None:
    plain = export(network, tmp_path / "plain.onnx")
    once = export(network, tmp_path / "once.onnx", CLIP)
    fast = accelerate_onnx(plain, network, tmp_path / "fast.onnx", [CLIP])
    assert fast.path.read_bytes() == once.path.read_bytes()
    assert fast.passes == once.passes
    frame = np.random.default_rng(0).random((1, 3, TILE.height, TILE.width), np.float32)
    outputs = [next(iter(run_onnxruntime(path, {"input": frame}).values())) for path in (plain.path, fast.path)]
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-5


@pytest.mark.parametrize("io", list(FrameFormat))
def test_fp16_and_uint8_graphs_are_made_from_the_faster_graph(
    network: LoadedModel, tmp_path: Path, io: FrameFormat
) -> None:
    fast = export(network, tmp_path / "fast.onnx", CLIP)
    colour = "bt709-full" if io is FrameFormat.NV12 else None
    half = derive_onnx(fast, tmp_path / "half.onnx", io=io, nv12_colour=colour, precision=Precision.FP16)
    assert half.float16 is not None
    assert half.float16.loss_db < 0.02
    assert half.passes == fast.passes
    assert operators(half.path)["Clip"] >= operators(fast.path)["Clip"] > 0


@pytest.mark.parametrize("derived", [False, True])
def test_fp16_goes_without_passes_after_which_it_fails(network: LoadedModel, tmp_path: Path, derived: bool) -> None:
    file = tmp_path / "half.onnx"
    plain = export(network, tmp_path / "plain.onnx")
    fast = export(network, tmp_path / "fast.onnx", CANCELLING)
    assert fast.passes == (*plain.passes, "cancelling")
    with raises(ExportError):
        derive_onnx(fast, file, precision=Precision.FP16)
    assert not file.exists()
    if derived:
        half = derive_onnx(fast, file, precision=Precision.FP16, without_passes=plain)
    else:
        half = export_onnx(network, TILE, file, passes=(CANCELLING,), precision=Precision.FP16)
    assert half.passes == plain.passes
    assert half.float16 is not None
    assert half.float16.loss_db < 0.02
    assert any("without passes" in remark for remark in half.remarks)
    assert "large" not in {tensor.name for tensor in onnx.load(file).graph.initializer}


def test_only_the_fp32_graph_of_float_frames_can_be_made_faster(network: LoadedModel, tmp_path: Path) -> None:
    plain = export(network, tmp_path / "plain.onnx")
    uint8 = derive_onnx(plain, tmp_path / "uint8.onnx", io=FrameFormat.UINT8_NHWC)
    with raises(UsageError, found=("fp32", "uint8", str(TILE))):
        accelerate_onnx(uint8, network, tmp_path / "fast.onnx", [CLIP])
    plain.path.write_bytes(uint8.path.read_bytes())
    with raises(ExportError, wanted=plain.sha256):
        accelerate_onnx(plain, network, tmp_path / "fast.onnx", [CLIP])
