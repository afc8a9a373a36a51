"""How the networks of a comparison are named on the command line, and which names are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_edge.bench.compare.model_spec import ModelKind, ModelSpec
from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.runtimes import runtime_names
from sr_edge.spec import Precision
from tests.expected_errors import raises


@pytest.mark.parametrize(
    ("text", "target", "kind", "precision", "float_precision", "runtime"),
    [
        ("model.onnx", "model.onnx", ModelKind.FILE, None, Precision.FP32, None),
        ("x.sredge@int8:openvino", "x.sredge", ModelKind.BUNDLE, Precision.INT8, Precision.FP32, "openvino"),
        ("x.sredge@openvino:int8", "x.sredge", ModelKind.BUNDLE, Precision.INT8, Precision.FP32, "openvino"),
        ("x.zip@int8+bf16:openvino", "x.zip", ModelKind.BUNDLE, Precision.INT8, Precision.BF16, "openvino"),
        ("model.onnx@bf16:openvino", "model.onnx", ModelKind.FILE, Precision.BF16, Precision.FP32, "openvino"),
        ("x.sredge@float16", "x.sredge", ModelKind.BUNDLE, Precision.FP16, Precision.FP32, "float16"),
        ("q/t.onnx:openvino", "q/t.onnx", ModelKind.FILE, None, Precision.FP32, "openvino"),
        ("x.sredge:openvino", "x.sredge", ModelKind.BUNDLE, None, Precision.FP32, "openvino"),
        ("x.sredge:openvino@int8", "x.sredge", ModelKind.BUNDLE, Precision.INT8, Precision.FP32, "openvino"),
        ("m.fp16.onnx:float16", "m.fp16.onnx", ModelKind.FILE, None, Precision.FP32, "float16"),
        ("weights.pth:torch", "weights.pth", ModelKind.TORCH, None, Precision.FP32, "torch"),
        ("convnet-tiny:torch", "convnet-tiny", ModelKind.TORCH, None, Precision.FP32, "torch"),
        ("convnet-tiny@torch", "convnet-tiny", ModelKind.TORCH, None, Precision.FP32, "torch"),
        ("mine.nets:build", "mine.nets:build", ModelKind.TORCH, None, Precision.FP32, None),
        ("weights.pth", "weights.pth", ModelKind.TORCH, None, Precision.FP32, None),
    ],
)
def test_spellings(
    text: str,
    target: str,
    kind: ModelKind,
    precision: Precision | None,
    float_precision: Precision,
    runtime: str | None,
) -> None:
    assert ModelSpec.parse(text) == ModelSpec(text, target, kind, precision, float_precision, runtime)


def test_a_file_with_an_at_in_its_name_is_taken_whole(tmp_path: Path) -> None:
    file = tmp_path / "a@b.onnx"
    file.touch()
    assert ModelSpec.parse(str(file)).target == str(file)
    name = ModelSpec.parse(f"{file}@openvino")
    assert (name.target, name.runtime) == (str(file), "openvino")


def test_a_file_or_a_folder_with_a_colon(tmp_path: Path) -> None:
    file = tmp_path / "a:b.onnx"
    file.touch()
    assert ModelSpec.parse(str(file)).target == str(file)
    for text in (f"{file}:openvino", f"{file}@openvino"):
        name = ModelSpec.parse(text)
        assert (name.target, name.runtime) == (str(file), "openvino")
    folder = ModelSpec.parse(f"{tmp_path}:openvino")  # an unpacked bundle
    assert (folder.target, folder.kind, folder.runtime) == (str(tmp_path), ModelKind.BUNDLE, "openvino")


def test_a_factory_of_a_package_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert ModelSpec.parse("mine:build") == ModelSpec("mine:build", "mine:build", ModelKind.TORCH)


@pytest.mark.parametrize(
    ("text", "resolved", "wanted"),
    [
        ("model.onnx@fp32:int8", "int8", "one precision"),
        ("model.onnx@openvino:onnxruntime", "onnxruntime", "one runtime"),
        ("model.onnx@openvino:int8:onnxruntime", "onnxruntime", "one runtime"),
        ("model.onnx:torch", "torch", ("onnxruntime", "openvino")),
        ("model.onnx@torch", "torch", ("onnxruntime", "openvino")),
        ("convnet-tiny:openvino", "openvino", "torch"),
        ("convnet-tiny@openvino", "openvino", "torch"),
    ],
)
def test_names_of_sides_that_are_refused(text: str, resolved: str, wanted: object) -> None:
    with raises(UsageError, found=resolved, wanted=wanted):
        ModelSpec.parse(text)


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("model.onnx@int4", "int4"),
        ("model.onnx@", ""),
        ("model.onnx:openvin", "openvin"),
        ("model.onnx:", ""),
        ("model.onnx@tensorflow", "tensorflow"),
    ],
)
def test_an_unknown_precision_or_runtime_is_an_unknown_name(text: str, resolved: str) -> None:
    precisions = ["fp32", "bf16", "fp16", "int8", "int8+bf16", "int8+fp16"]
    with raises(UnknownNameError, found=resolved, wanted=[*precisions, *runtime_names(), "float16"]):
        ModelSpec.parse(text)


def test_a_file_of_another_kind_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with raises(UsageError, found=".txt", wanted=(".onnx", ".sredge", ".zip", ".pth", ".pt", ".safetensors")):
        ModelSpec.parse(str(tmp_path / "notes.txt"))
