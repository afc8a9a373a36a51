"""A session says which precision really ran, and refuses to run another one unasked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.errors import PrecisionUnavailable
from sr_edge.runtimes import open_request, supports
from sr_edge.runtimes.engine.executed import executed_precision
from sr_edge.spec import ActivationType, Precision
from tests.expected_errors import raises
from tests.runtimes.here import require_exact_int8

Array = npt.NDArray[np.float32]


def require(runtime: str, precision: Precision) -> None:
    if not supports(runtime, precision):
        pytest.skip(f"{runtime} cannot run {precision} on this CPU")


def test_fp32_is_fp32(onnx_runtime: str, toys: Any) -> None:
    with open_request(onnx_runtime, toys.request(toys.plain())) as session:
        assert (session.spec.ran, session.spec.float_precision_ran, session.spec.note) == (
            Precision.FP32,
            Precision.FP32,
            "",
        )


@pytest.mark.parametrize("runtime_name", ["torch", "openvino"])
def test_bf16_runs_where_it_is_asked_for(runtime_name: str, toys: Any, batches: list[Array]) -> None:
    require(runtime_name, Precision.BF16)
    with open_request(runtime_name, toys.request_for(runtime_name, Precision.BF16)) as session:
        assert (session.spec.requested, session.spec.ran) == (Precision.BF16, Precision.BF16)
        error = np.abs(session.run(batches[0]) - toys.reference(batches[0])).max()
    assert 1e-5 < error < 3e-2


def test_bf16_is_not_in_onnxruntime(toys: Any, batches: list[Array]) -> None:
    require("onnxruntime", Precision.FP32)
    with raises(PrecisionUnavailable, found=Precision.BF16, wanted=(Precision.FP32,)):
        open_request("onnxruntime", toys.request(toys.plain(), Precision.BF16))
    with open_request("onnxruntime", toys.request(toys.plain(), Precision.BF16, allow_other_precision=True)) as session:
        assert (session.spec.requested, session.spec.ran) == (Precision.BF16, Precision.FP32)


def test_fp16_graph_on_a_cpu_without_fp16(onnx_runtime: str, toys: Any, batches: list[Array]) -> None:
    if supports(onnx_runtime, Precision.FP16):
        pytest.skip(f"{onnx_runtime} computes fp16 on this CPU")
    with raises(PrecisionUnavailable, found=Precision.FP16):
        open_request(onnx_runtime, toys.request(toys.half(), Precision.FP16))
    with open_request(onnx_runtime, toys.request(toys.half(), Precision.FP16, allow_other_precision=True)) as session:
        assert (session.spec.requested, session.spec.ran) == (Precision.FP16, Precision.FP32)
        np.testing.assert_allclose(session.run(batches[0]), toys.reference(batches[0]), atol=5e-3)


def test_torch_has_no_int8(toys: Any) -> None:
    require("torch", Precision.FP32)
    with raises(PrecisionUnavailable, found=Precision.INT8, wanted=(Precision.FP32, Precision.BF16)):
        open_request("torch", toys.request_for("torch", Precision.INT8))


@pytest.mark.parametrize("activation_type", list(ActivationType))
@pytest.mark.parametrize("float_precision", [Precision.FP32, Precision.BF16])
def test_openvino_int8_really_runs(
    toys: Any, batches: list[Array], activation_type: ActivationType, float_precision: Precision
) -> None:
    require("openvino", Precision.INT8)
    require("openvino", float_precision)
    with open_request(
        "openvino", toys.request(toys.plain(activation_type), Precision.INT8, float_precision=float_precision)
    ) as session:
        assert (session.spec.ran, session.spec.float_precision_ran, session.spec.note) == (
            Precision.INT8,
            float_precision,
            "",
        )
        error = np.abs(session.run(batches[0]) - toys.reference(batches[0])).max()
    assert error > 1e-4
    require_exact_int8()
    assert error < 0.2


def test_onnxruntime_int8_really_runs_between_quantizers(toys: Any, batches: list[Array]) -> None:
    require("onnxruntime", Precision.INT8)
    with open_request("onnxruntime", toys.request(toys.chained_int8(), Precision.INT8)) as session:
        assert (session.spec.ran, session.spec.float_precision_ran, session.spec.note) == (
            Precision.INT8,
            Precision.FP32,
            "",
        )


def test_onnxruntime_says_when_a_quantized_file_runs_in_float(toys: Any) -> None:
    require("onnxruntime", Precision.INT8)
    with raises(PrecisionUnavailable, found=Precision.FP32, wanted=Precision.INT8):
        open_request("onnxruntime", toys.request(toys.plain(ActivationType.INT8), Precision.INT8))
    request = toys.request(toys.plain(ActivationType.INT8), Precision.INT8, allow_other_precision=True)
    with open_request("onnxruntime", request) as session:
        assert (session.spec.ran, session.spec.note) == (Precision.FP32, "0 of 2 quantized layers run in int8")


def test_the_rest_of_an_int8_graph_is_asked_for_too(onnx_runtime: str, toys: Any) -> None:
    require(onnx_runtime, Precision.INT8)
    if supports(onnx_runtime, Precision.FP16):
        pytest.skip(f"{onnx_runtime} computes fp16 on this CPU")
    with raises(PrecisionUnavailable, found=Precision.FP16):
        open_request(onnx_runtime, toys.request(toys.chained_int8(), Precision.INT8, float_precision=Precision.FP16))


def test_float_file_is_never_int8(onnx_runtime: str, toys: Any) -> None:
    require(onnx_runtime, Precision.INT8)
    with raises(PrecisionUnavailable, found=Precision.FP32, wanted=Precision.INT8):
        open_request(onnx_runtime, toys.request(toys.plain(), Precision.INT8))
    with open_request(onnx_runtime, toys.request(toys.plain(), Precision.INT8, allow_other_precision=True)) as session:
        assert (session.spec.requested, session.spec.ran) == (Precision.INT8, Precision.FP32)


def test_quantized_file_is_never_fp32_unsaid(toys: Any) -> None:
    require("openvino", Precision.INT8)
    with raises(PrecisionUnavailable, found=Precision.INT8, wanted=Precision.FP32):
        open_request("openvino", toys.request(toys.plain(ActivationType.UINT8)))


def test_openvino_options_cannot_hide_what_ran(toys: Any) -> None:
    require("openvino", Precision.BF16)
    request = toys.request(toys.plain(), options={"INFERENCE_PRECISION_HINT": "bf16"})
    with raises(PrecisionUnavailable, found=Precision.BF16, wanted=Precision.FP32):
        open_request("openvino", request)


@pytest.mark.parametrize(
    ("layers", "quantized", "ran", "note"),
    [
        ({"fp32": 5}, 0, "fp32", ""),
        ({"bf16": 5, "fp32": 2}, 0, "bf16", "float layers: 5 in bf16, 2 in fp32"),
        ({"int8": 44, "fp32": 2}, 44, "int8", ""),
        ({"int8": 3, "bf16": 60}, 3, "int8", ""),
        ({"int8": 21, "fp32": 23}, 44, "fp32", "21 of 44 quantized layers run in int8"),
        ({"int8": 22, "fp32": 22}, 44, "int8", "22 of 44 quantized layers run in int8"),
        ({}, 0, "bf16", ""),
    ],
)
def test_verdict(layers: dict[str, int], quantized: int, ran: str, note: str) -> None:
    counted = {Precision(name): count for name, count in layers.items()}
    executed = executed_precision(counted, quantized, Precision.BF16)
    assert (executed.ran, executed.float_precision, executed.note) == (Precision(ran), Precision.BF16, note)
