"""A Triton model repository: every file in its place, and a configuration that the published schema takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # ships no types
import pytest
from google.protobuf import (  # type: ignore[import-untyped]  # ships no types
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)

from sr_edge.bundle import Bundle, open_bundle
from sr_edge.export import check_graph
from sr_edge.serving.layout import ServingBackend
from sr_edge.serving.served_graph import load_served_graph
from sr_edge.spec import FrameFormat, Precision

SrEdge = Callable[..., Any]
"""The fixture of conftest.py; it gives code, stdout, stderr and the one error line."""

Field = descriptor_pb2.FieldDescriptorProto
Message = Any  # a class that protobuf makes at run time

# What we write of protobuf/model_config.proto (triton-inference-server/common), with its field and enum numbers.
DATA_TYPES = {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_FP16": 10, "TYPE_FP32": 11}
KINDS = {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3}
MESSAGES: dict[str, tuple[tuple[str, int, int, str, bool], ...]] = {  # name, number, type, type's name, repeated
    "ModelInput": (
        ("name", 1, Field.TYPE_STRING, "", False),
        ("data_type", 2, Field.TYPE_ENUM, ".inference.DataType", False),
        ("dims", 4, Field.TYPE_INT64, "", True),
    ),
    "ModelOutput": (
        ("name", 1, Field.TYPE_STRING, "", False),
        ("data_type", 2, Field.TYPE_ENUM, ".inference.DataType", False),
        ("dims", 3, Field.TYPE_INT64, "", True),
    ),
    "ModelInstanceGroup": (
        ("count", 2, Field.TYPE_INT32, "", False),
        ("kind", 4, Field.TYPE_ENUM, ".inference.Kind", False),
    ),
    "ModelConfig": (
        ("name", 1, Field.TYPE_STRING, "", False),
        ("max_batch_size", 4, Field.TYPE_INT32, "", False),
        ("input", 5, Field.TYPE_MESSAGE, ".inference.ModelInput", True),
        ("output", 6, Field.TYPE_MESSAGE, ".inference.ModelOutput", True),
        ("instance_group", 7, Field.TYPE_MESSAGE, ".inference.ModelInstanceGroup", True),
        ("default_model_filename", 8, Field.TYPE_STRING, "", False),
        ("backend", 17, Field.TYPE_STRING, "", False),
    ),
}


@pytest.fixture(scope="module")
def model_config() -> Message:
    """The class of `inference.ModelConfig`, reduced to what we write."""
    file = descriptor_pb2.FileDescriptorProto(name="reduced.proto", package="inference", syntax="proto3")
    for name, values in (("DataType", DATA_TYPES), ("Kind", KINDS)):
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, type_name, repeated in fields:
            label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            message.field.add(name=field, number=number, type=kind, type_name=type_name or None, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def served(tensors: Sequence[Message]) -> list[tuple[str, int, list[int]]]:
    return [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in tensors]


SERVED = {  # arguments, what is served
    "float": ((), "model.onnx", "float"),
    "uint8 frames": (("--io", "uint8"), "model.uint8.onnx", "uint8"),
    "int8": (("--precision", "int8"), "model.int8.onnx", "float"),
    "int8 with fp16": (
        ("--precision", "int8", "--float-precision", "fp16", "--io", "uint8"),
        "model.int8-fp16.uint8.onnx",
        "uint8",
    ),
    "openvino": (("--backend", "openvino", "--precision", "int8"), "model.int8-u8.onnx", "float"),
}


@pytest.mark.parametrize("case", SERVED)
def test_the_schema_takes_the_configuration_and_it_tells_the_graph(
    case: str, sr_edge: SrEdge, bundle: Path, tmp_path: Path, model_config: Message
) -> None:
    arguments, graph, io = SERVED[case]
    outcome = sr_edge("export-triton", bundle, tmp_path / "models", *arguments, "--json")
    assert outcome.code == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    folder = tmp_path / "models" / document["name"]
    assert document["graph"] == graph
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*")) == ["1", "1/model.onnx", "config.pbtxt"]
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config())
    assert (config.name, config.max_batch_size) == (folder.name, 0)
    assert config.default_model_filename == "model.onnx"
    sides = ([1, 3, 24, 24], [1, 3, 48, 48]) if io == "float" else ([1, 24, 24, 3], [1, 48, 48, 3])
    data_type = DATA_TYPES["TYPE_FP32" if io == "float" else "TYPE_UINT8"]
    assert served(config.input) == [("input", data_type, sides[0])]
    assert served(config.output) == [("output", data_type, sides[1])]
    (group,) = config.instance_group
    assert group.count == 1
    is_openvino = config.backend == "openvino"
    assert group.kind == KINDS["KIND_CPU" if is_openvino else "KIND_GPU"]


def test_the_schema_of_this_test_refuses_what_it_does_not_know(model_config: Message) -> None:
    with pytest.raises(text_format.ParseError):
        text_format.Parse("max_batchsize: 0", model_config())


def test_uint8_put_around_a_graph_gives_the_pictures_of_the_float_graph(bundle: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1, 24, 24, 3), np.uint8)
    batch = np.ascontiguousarray(frame.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
    with open_bundle(bundle) as opened:
        floats = tuple(item for item in opened.manifest.artifacts if item.io is FrameFormat.FLOAT_NCHW)
        older = Bundle(opened.path, opened.folder, replace(opened.manifest, artifacts=floats))
        graphs = [
            load_served_graph(older, ServingBackend.TENSORRT, Precision.INT8, Precision.FP32, io)
            for io in (FrameFormat.UINT8_NHWC, FrameFormat.FLOAT_NCHW)
        ]
    assert [graph.is_as_stored for graph in graphs] == [False, True]
    assert check_graph(graphs[0].model) == ()
    actual, wanted = (run(graph.data, tensor) for graph, tensor in zip(graphs, (frame, batch), strict=True))
    expected = np.rint(np.clip(wanted, 0, 1) * 255).transpose(0, 2, 3, 1)
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 1  # 1/255 in front is another float


def run(graph: bytes, tensor: Any) -> Any:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": tensor})[0]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "somewhere.plan"
    path.write_bytes(b"an engine")
    yield path


def test_an_engine_is_served_as_it_is(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path, engine: Path, model_config: Message
) -> None:
    arguments = ("--backend", "tensorrt", "--precision", "int8", "--float-precision", "fp16", "--engine", engine)
    outcome = sr_edge("export-triton", bundle, tmp_path / "models", *arguments, "--instances", "2")
    assert outcome.code == 0, outcome.stderr
    assert "--model-repository=" in outcome.stdout
    (folder,) = (tmp_path / "models").iterdir()
    assert (folder / "1" / "model.plan").read_bytes() == b"an engine"
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config())
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert config.instance_group[0].count == 2


def test_a_second_model_joins_and_the_same_one_is_refused(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    assert sr_edge("export-triton", bundle, tmp_path).code == 0
    assert sr_edge("export-triton", bundle, tmp_path, "--precision", "int8").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["convnet-tiny-x2-fp32", "convnet-tiny-x2-int8"]
    again = sr_edge("export-triton", bundle, tmp_path)
    assert again.code == 2 and str(tmp_path / "convnet-tiny-x2-fp32") in again.error


WRONG = {  # arguments, exit code, what the error names
    "no engine": (("--backend", "tensorrt"), 2, ("tensorrt", "--engine", "export-trtexec")),
    "engine for onnx": (("--engine", "x.plan"), 2, ("x.plan", "onnxruntime", "--backend tensorrt")),
    "absent engine": (("--backend", "tensorrt", "--engine", "x.plan"), 2, ("x.plan", "export-trtexec")),
    "kind": (("--backend", "openvino", "--kind", "gpu"), 2, ("openvino", "gpu", "--kind")),
    "precision": (("--precision", "fp16"), 1, ("fp16", "model.onnx", "model.int8.onnx")),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_served_is_refused(case: str, sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    arguments, code, words = WRONG[case]
    outcome = sr_edge("export-triton", bundle, tmp_path / "models", *arguments)
    assert outcome.code == code
    assert all(word in outcome.error for word in words), outcome.error
    assert not (tmp_path / "models").exists()
