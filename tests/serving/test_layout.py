"""The options of a Triton model."""

from __future__ import annotations

from pathlib import Path

from sr_edge.errors import UsageError
from sr_edge.serving.layout import InstanceKind, ServingBackend, TritonOptions
from tests.expected_errors import raises


def test_an_empty_engine_serves_nobody(tmp_path: Path) -> None:
    engine = tmp_path / "empty.plan"
    engine.touch()
    with raises(UsageError, found=engine, wanted="a complete engine"):
        TritonOptions(ServingBackend.TENSORRT, engine=engine)


def test_what_a_server_cannot_run_is_refused(tmp_path: Path) -> None:
    absent = tmp_path / "absent.plan"
    with raises(UsageError, found=0):
        TritonOptions(instances=0)
    with raises(UsageError, found="gpu", wanted=("cpu",)):
        TritonOptions(ServingBackend.OPENVINO, kind=InstanceKind.GPU)
    with raises(UsageError, found=None, wanted="an engine"):
        TritonOptions(ServingBackend.TENSORRT)
    with raises(UsageError, found=absent, wanted="an ONNX file"):
        TritonOptions(ServingBackend.ONNXRUNTIME, engine=absent)
    with raises(UsageError, found=absent, wanted="an existing file"):
        TritonOptions(ServingBackend.TENSORRT, engine=absent)
