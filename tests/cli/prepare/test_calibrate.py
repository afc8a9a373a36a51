"""`sr-edge calibrate`: writes an INT8 file within the budget from any model, with a report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.spec import Precision
from tests.cli.conftest import SrEdge, smooth_picture
from tests.command_line import interrupt_at

FAST = ("--runtime", "none", "--patches", "4")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "model.int8.onnx"


@pytest.fixture(autouse=True)
def _folder(out: Path) -> None:
    out.parent.mkdir()


def made(out: Path) -> set[str]:
    return {path.name for path in out.parent.iterdir()}


def has_uint8_activations(path: Path) -> bool:
    tensors = {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}
    quantizers = [node for node in onnx.load(path).graph.node if node.op_type == "QuantizeLinear"]
    return {tensors[node.input[2]] for node in quantizers} == {onnx.TensorProto.UINT8}


def test_a_graph_becomes_int8_with_table_curve_and_sentence(
    sr_edge: SrEdge, bundle: Path, pictures: Path, out: Path
) -> None:
    outcome = sr_edge("calibrate", bundle / "model.onnx", "--images", pictures, *FAST, "-o", out)
    assert outcome.code == 0, outcome.stderr
    assert made(out) == {
        "model.int8.onnx",
        "model.int8.calibration.json",
        "model.int8.pareto.json",
        "model.int8.pareto.png",
    }
    assert not has_uint8_activations(out)
    assert "/middle.0/Conv" in outcome.stdout
    assert "quantizable layers became INT8. INT8 loses 0.0" in " ".join(outcome.stdout.split())
    assert "warning: there are only 4 different calibration patches" in outcome.stdout
    assert "joint checks" in outcome.stderr


def test_finetuning_is_shown_and_kept_in_the_cache(sr_edge: SrEdge, bundle: Path, pictures: Path, out: Path) -> None:
    outcome = sr_edge("calibrate", bundle / "model.onnx", "--images", pictures, *FAST, "--finetune", "3", "-o", out)
    assert outcome.code == 0, outcome.stderr
    assert "fine-tuning ..." in outcome.stderr
    assert "Fine-tuning improved" in " ".join(outcome.stdout.split())
    cached = json.loads(out.with_suffix(".calibration.json").read_text())
    assert cached["calibration"]["finetuning"]["steps"] == 3


def test_openvino_times_layers_and_gets_uint8_activations(
    sr_edge: SrEdge, bundle: Path, pictures: Path, out: Path
) -> None:
    pytest.importorskip("openvino")
    arguments = ("--images", pictures, "--runtime", "openvino", "--patches", "4", "--json", "-o", out)
    outcome = sr_edge("calibrate", bundle, *arguments)
    assert outcome.code == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert has_uint8_activations(out)
    assert document["activation_type"] == "uint8"
    assert document["curve"]["unit"] == "ms"
    assert document["curve"]["measured"]["chosen_ms"] > 0.0
    assert {row["precision"] for row in document["layers"]} <= {"int8", "fp32"}


def test_a_registered_name_is_exported_for_the_moment_and_its_cache_holds(
    sr_edge: SrEdge, pictures: Path, out: Path
) -> None:
    tiny = ("convnet-tiny", "--scale", "2", "--random-weights", "--tile", "24", "--images", pictures, *FAST)
    assert sr_edge("calibrate", *tiny, "-o", out).code == 0
    again = sr_edge("calibrate", *tiny, "-o", out)
    assert again.code == 0
    assert "calibrating" not in again.stderr
    assert "joint checks" in again.stderr


def test_a_cache_left_by_other_pictures_is_replaced_and_a_named_one_is_not(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path, out: Path
) -> None:
    graph = bundle / "model.onnx"
    assert sr_edge("calibrate", graph, "--images", pictures, *FAST, "-o", out).code == 0
    write_picture(tmp_path / "other.png", smooth_picture(60, 60, 9))
    other = ("--images", tmp_path / "other.png", *FAST, "-o", out)
    outcome = sr_edge("calibrate", graph, *other)
    assert outcome.code == 0
    assert "calibrating" in outcome.stderr
    named = ("--cache", out.with_suffix(".calibration.json"))
    refused = sr_edge("calibrate", graph, "--images", pictures, *FAST, *named, "-o", out)
    assert refused.code == 1
    assert str(out.with_suffix(".calibration.json")) in refused.error
    assert "other calibration patches" in refused.error
    assert sr_edge("calibrate", graph, "--images", pictures, *FAST, *named, "--recalibrate", "-o", out).code == 0


@pytest.mark.parametrize("again", [(), ("--recalibrate",)])
def test_ctrl_c_says_that_the_cache_goes_on_from_there(
    sr_edge: SrEdge, bundle: Path, pictures: Path, out: Path, monkeypatch: pytest.MonkeyPatch, again: tuple[str, ...]
) -> None:
    arguments = ("calibrate", bundle / "model.onnx", "--images", pictures, *FAST, "-o", out)
    with monkeypatch.context() as patch:
        interrupt_at("joint checks", patch)
        outcome = sr_edge(*arguments, *again)
    assert outcome.code == 130
    assert made(out) == {"model.int8.calibration.json"}
    assert str(out.with_suffix(".calibration.json")) in outcome.error
    assert ("--recalibrate" in outcome.error) is bool(again)
    resumed = sr_edge(*arguments)
    assert resumed.code == 0
    assert "calibrating" not in resumed.stderr


def test_ctrl_c_before_anything_is_measured_promises_nothing(
    sr_edge: SrEdge, bundle: Path, pictures: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at("calibrating", monkeypatch)
    out.with_suffix(".calibration.json").write_text("of an earlier run")
    outcome = sr_edge("calibrate", bundle / "model.onnx", "--images", pictures, *FAST, "--recalibrate", "-o", out)
    assert outcome.code == 130
    assert outcome.error == "sr-edge: interrupted"
    assert out.with_suffix(".calibration.json").read_text() == "of an earlier run"


def test_decibels_against_originals_are_shown(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "hr").mkdir()
    write_picture(tmp_path / "hr" / "large.png", smooth_picture(120, 140, 3))
    arguments = ("--images", pictures, "--hr", tmp_path / "hr", *FAST, "--max-drop-db", "5", "--json", "-o", out)
    outcome = sr_edge("calibrate", bundle / "model.onnx", *arguments)
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["originals_db"] is not None


def test_originals_smaller_than_the_patch_say_so(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "hr").mkdir()
    write_picture(tmp_path / "hr" / "small.png", smooth_picture(20, 20, 3))
    arguments = ("--images", pictures, "--hr", tmp_path / "hr", *FAST, "-o", out)
    outcome = sr_edge("calibrate", bundle / "model.onnx", *arguments)
    assert outcome.code == 1
    assert all(part in outcome.error for part in ("small.png", "10x10", "24x24"))


def test_pictures_smaller_than_the_patch_are_padded_by_reflection_with_a_warning(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "small").mkdir()
    for seed in range(3):
        write_picture(tmp_path / "small" / f"{seed}.png", smooth_picture(9, 7, seed))
    outcome = sr_edge("calibrate", bundle / "model.onnx", "--images", tmp_path / "small", *FAST, "-o", out)
    assert outcome.code == 0
    text = " ".join(outcome.stdout.split())
    assert text.count("warning: 3 of 3 pictures were smaller than 24x24 (smallest 9x7) and padded by reflection") == 1


def test_damaged_pictures_are_skipped_counted_and_named(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path, out: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(pictures, images)
    (images / "broken.png").write_bytes((images / "waves0.png").read_bytes()[:200])
    (images / "notes.txt").write_text("no picture")
    arguments = ("--images", images, *FAST, "--json", "-o", out)
    outcome = sr_edge("calibrate", bundle / "model.onnx", *arguments)
    assert outcome.code == 0, outcome.stderr
    warnings = json.loads(outcome.stdout)["warnings"]
    assert str(images / "broken.png") in warnings[0]
    assert warnings[1] == "1 of 4 pictures was skipped"
    assert "1 file is not a picture: notes.txt" in warnings


@pytest.mark.parametrize("side_px", [16, 24])
def test_copies_of_one_picture_no_larger_than_the_patch_are_refused(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path, out: Path, side_px: int
) -> None:
    """Random mirroring makes four versions of it."""
    (tmp_path / "copies").mkdir()
    for index in range(20):
        write_picture(tmp_path / "copies" / f"{index}.png", smooth_picture(side_px, side_px, 7))
    arguments = ("--images", tmp_path / "copies", "--runtime", "none", "-o", out)
    outcome = sr_edge("calibrate", bundle / "model.onnx", *arguments)
    assert outcome.code == 1
    assert "all 40 calibration patches are the same" in outcome.error
    assert made(out) == set()


def test_black_pictures_are_refused_and_nothing_is_left(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "black").mkdir()
    write_picture(tmp_path / "black" / "0.png", Picture(np.zeros((40, 40, 3), np.uint8)))
    outcome = sr_edge("calibrate", bundle / "model.onnx", "--images", tmp_path / "black", *FAST, "-o", out)
    assert outcome.code == 1
    assert all(part in outcome.error for part in ("all 4 calibration patches", "0.000,", "0.0000"))
    assert made(out) == set()


@pytest.mark.parametrize(
    ("options", "code", "parts"),
    [
        (("--max-drop-db", "0"), 1, ("no layer can be INT8", " 0 dB")),
        (("--max-drop-db", "-1"), 2, ("-1.0", " 0 dB", "0.05")),
        (("--finetune", "-1"), 2, ("'--finetune'",)),
        (("--latency-target", "0"), 2, ("latency target", "0.0 ms", "above 0 ms")),
        (("--latency-target", "5", "--runtime", "none"), 2, ("latency target", "5 ms", "openvino")),
        (("--float-precision", "int8"), 2, ("int8", "fp32, bf16, fp16")),
        (("--input-range", "0", "--runtime", "none"), 2, ("--input-range", "'0'", "auto, 1, 255")),
        (("--input-range", "nan", "--runtime", "none"), 2, ("--input-range", "'nan'", "auto, 1, 255")),
        (("--input-range", "255", "--runtime", "none"), 2, ("--input-range", "sr-edge", "leave it out")),
        (("--scale", "3"), 2, ("2 times", "3 times")),
        (("--arch", "mine:network", "--random-weights"), 2, ("--arch", "--random-weights", "PyTorch")),
        (("--method", "serch"), 2, ("serch", "search, min-max")),
        (("--runtime", "tensorflow"), 2, ("'tensorflow'", "openvino, none")),
    ],
)
def test_what_is_refused_is_explained_and_no_graph_is_written(
    sr_edge: SrEdge,
    bundle: Path,
    pictures: Path,
    out: Path,
    options: tuple[str, ...],
    code: int,
    parts: tuple[str, ...],
) -> None:
    outcome = sr_edge("calibrate", bundle / "model.onnx", "--images", pictures, "--patches", "4", *options, "-o", out)
    assert outcome.code == code
    assert all(part in outcome.error for part in parts), outcome.error
    assert "model.int8.onnx" not in made(out)


def test_a_latency_that_float_has_writes_nothing(sr_edge: SrEdge, bundle: Path, pictures: Path, out: Path) -> None:
    pytest.importorskip("openvino")
    arguments = ("--images", pictures, "--patches", "4", "--latency-target", "1e9", "-o", out)
    outcome = sr_edge("calibrate", bundle / "model.onnx", *arguments)
    assert outcome.code == 1
    assert "1e+09 ms" in outcome.error
    assert "float" in outcome.error
    assert made(out) == set()


def test_a_quantized_graph_is_refused(sr_edge: SrEdge, bundle: Path, pictures: Path, out: Path) -> None:
    outcome = sr_edge("calibrate", bundle / "model.int8.onnx", "--images", pictures, *FAST, "-o", out)
    assert outcome.code == 1
    assert "already quantized" in outcome.error


def test_a_graph_without_layers_is_refused(sr_edge: SrEdge, pictures: Path, tmp_path: Path, out: Path) -> None:
    body = "g (float[1,3,24,24] x) => (float[1,3,24,24] y) { y = Relu(x) }"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {body}'), tmp_path / "relu.onnx")
    outcome = sr_edge("calibrate", tmp_path / "relu.onnx", "--images", pictures, *FAST, "-o", out)
    assert outcome.code == 1
    assert "no layer with weights" in outcome.error


def test_weights_that_are_not_finite_are_refused(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path, out: Path
) -> None:
    model = onnx.load(bundle / "model.onnx")
    tensor = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tuple(tensor.dims), np.nan, np.float32), tensor.name))
    onnx.save(model, tmp_path / "nan.onnx")
    outcome = sr_edge("calibrate", tmp_path / "nan.onnx", "--images", pictures, *FAST, "-o", out)
    assert outcome.code == 1
    assert "NaN" in outcome.error
    assert tensor.name.removesuffix(".weight") in outcome.error.replace("/", ".")


def test_a_bundle_stays_as_it_was(sr_edge: SrEdge, bundle: Path, pictures: Path, out: Path) -> None:
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    assert (
        sr_edge("calibrate", bundle, "--images", pictures, *FAST, "--float-precision", Precision.FP16, "-o", out).code
        == 0
    )
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before
    types = {tensor.data_type for tensor in onnx.load(out).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in types


def test_a_graph_of_any_size_says_which_patches_were_taken_and_how_to_choose(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path, out: Path
) -> None:
    model = onnx.load(bundle / "model.onnx")
    for value in (model.graph.input[0], model.graph.output[0]):
        for axis, name in ((2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{name}"
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "any.onnx")
    outcome = sr_edge("calibrate", tmp_path / "any.onnx", "--images", pictures, *FAST, "-o", out)
    assert outcome.code == 0, outcome.stderr
    assert "the graph takes any size: patches are 64x64; --tile chooses another size" in outcome.stdout
    chosen = ("--tile", "32x24", "--json", "--recalibrate")
    document = json.loads(
        sr_edge("calibrate", tmp_path / "any.onnx", "--images", pictures, *FAST, *chosen, "-o", out).stdout
    )
    assert (document["tile"], document["remark"]) == ({"height": 32, "width": 24}, "")
