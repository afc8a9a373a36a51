"""How the networks of a comparison are named on the command line, and which names are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_edge.bench.side_names import Kind, SideName
from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.runtimes import runtime_names
from sr_edge.spec import Precision
from tests.expected_errors import raises


@pytest.mark.parametrize(
    ("text", "target", "kind", "precision", "rest", "runtime"),
    [
        ("model.onnx", "model.onnx", Kind.FILE, None, Precision.FP32, None),
        ("x.sredge@int8:openvino", "x.sredge", Kind.BUNDLE, Precision.INT8, Precision.FP32, "openvino"),
        ("x.sredge@openvino:int8", "x.sredge", Kind.BUNDLE, Precision.INT8, Precision.FP32, "openvino"),
        ("x.zip@int8+bf16:openvino", "x.zip", Kind.BUNDLE, Precision.INT8, Precision.BF16, "openvino"),
        ("model.onnx@bf16:openvino", "model.onnx", Kind.FILE, Precision.BF16, Precision.FP32, "openvino"),
        ("x.sredge@float16", "x.sredge", Kind.BUNDLE, Precision.FP16, Precision.FP32, "float16"),
        ("q/t.onnx:openvino", "q/t.onnx", Kind.FILE, None, Precision.FP32, "openvino"),
        ("x.sredge:openvino", "x.sredge", Kind.BUNDLE, None, Precision.FP32, "openvino"),
        ("x.sredge:openvino@int8", "x.sredge", Kind.BUNDLE, Precision.INT8, Precision.FP32, "openvino"),
        ("m.fp16.onnx:float16", "m.fp16.onnx", Kind.FILE, None, Precision.FP32, "float16"),
        ("weights.pth:torch", "weights.pth", Kind.TORCH, None, Precision.FP32, "torch"),
        ("convnet-tiny:torch", "convnet-tiny", Kind.TORCH, None, Precision.FP32, "torch"),
        ("convnet-tiny@torch", "convnet-tiny", Kind.TORCH, None, Precision.FP32, "torch"),
        ("mine.nets:build", "mine.nets:build", Kind.TORCH, None, Precision.FP32, None),
        ("weights.pth", "weights.pth", Kind.TORCH, None, Precision.FP32, None),
    ],
)
def test_spellings(
    text: str, target: str, kind: Kind, precision: Precision | None, rest: Precision, runtime: str | None
) -> None:
    assert SideName.parse(text) == SideName(text, target, kind, precision, rest, runtime)


def test_a_file_with_an_at_in_its_name_is_taken_whole(tmp_path: Path) -> None:
    file = tmp_path / "a@b.onnx"
    file.touch()
    assert SideName.parse(str(file)).target == str(file)
    name = SideName.parse(f"{file}@openvino")
    assert (name.target, name.runtime) == (str(file), "openvino")


def test_a_file_or_a_folder_with_a_colon(tmp_path: Path) -> None:
    file = tmp_path / "a:b.onnx"
    file.touch()
    assert SideName.parse(str(file)).target == str(file)
    for text in (f"{file}:openvino", f"{file}@openvino"):
        name = SideName.parse(text)
        assert (name.target, name.runtime) == (str(file), "openvino")
    folder = SideName.parse(f"{tmp_path}:openvino")  # an unpacked bundle
    assert (folder.target, folder.kind, folder.runtime) == (str(tmp_path), Kind.BUNDLE, "openvino")


def test_a_factory_of_a_package_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert SideName.parse("mine:build") == SideName("mine:build", "mine:build", Kind.TORCH)


@pytest.mark.parametrize(
    ("text", "found", "wanted"),
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
def test_names_of_sides_that_are_refused(text: str, found: str, wanted: object) -> None:
    with raises(UsageError, found=found, wanted=wanted):
        SideName.parse(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("model.onnx@int4", "int4"),
        ("model.onnx@", ""),
        ("model.onnx:openvin", "openvin"),
        ("model.onnx:", ""),
        ("model.onnx@tensorflow", "tensorflow"),
    ],
)
def test_an_unknown_precision_or_runtime_is_an_unknown_name(text: str, found: str) -> None:
    precisions = ["fp32", "bf16", "fp16", "int8", "int8+bf16", "int8+fp16"]
    with raises(UnknownNameError, found=found, wanted=[*precisions, *runtime_names(), "float16"]):
        SideName.parse(text)


def test_a_file_of_another_kind_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with raises(UsageError, found=".txt", wanted=(".onnx", ".sredge", ".zip", ".pth", ".pt", ".safetensors")):
        SideName.parse(str(tmp_path / "notes.txt"))
