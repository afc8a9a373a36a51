"""Rules for ONNX Runtime and OpenVINO: what they refuse or compute wrongly, as far as it was measured.

OpenVINO 2026.4.1 and ONNX Runtime 1.31.1 read all graphs of the tests except those below. The fault with signed INT8 is
in OpenVINO's kernels for CPUs without AMX (AVX-512 VNNI and AVX2): a signed QuantizeLinear after a Concat, also with
an addition or multiplication of constants between them, or a Concat of signed quantized values, each in front of an
INT8 convolution, gave errors of a third of the largest output. With a LeakyRelu, a Reshape, a Transpose or another
convolution between them, or with unsigned values, there was no error.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from sr_edge.export.checks.findings import Problem
from sr_edge.export.graph.view import GraphView, default_opset

OLDEST_OPSET_OF_ONNXRUNTIME = 7

_KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_FOLDED_INTO_QUANTIZATION = frozenset({"Add", "Mul", "Sub", "Div"})
"""Operators that OpenVINO, where one operand is constant, folds into the quantization that follows."""


def unknown_domains(view: GraphView) -> Iterator[Problem]:
    """Operators of custom domains, which ONNX Runtime and OpenVINO run only with an extension library."""
    for at, node in enumerate(view.nodes):
        if node.domain not in _KNOWN_DOMAINS:
            why = f"domain {node.domain!r} needs an extension library"
            yield Problem(view.name(at), node.op_type, why, "use standard operators")


def old_opset(view: GraphView) -> Iterator[Problem]:
    """Opsets below 7, which ONNX Runtime does not support; for example, it has no kernel for the Relu of opset 5."""
    opset = default_opset(view.model)
    if 0 < opset < OLDEST_OPSET_OF_ONNXRUNTIME:
        yield Problem("opset_import", "model", f"it is opset {opset}", "convert it to opset 17")


def openvino_operators(view: GraphView) -> Iterator[Problem]:
    """Operators that OpenVINO's ONNX reader does not convert."""
    for name, node in view.of_types(["DeformConv"]):
        yield Problem(name, node.op_type, "OpenVINO does not read it from ONNX", "write it with GridSample")


def signed_int8_behind_concat(view: GraphView) -> Iterator[Problem]:
    """Signed INT8 activations that are concatenated: OpenVINO loses their sign."""
    for name, node in view.of_types(["QuantizeLinear"]):
        if view.types.get(node.output[0]) == TensorProto.INT8 and _meets_concat(view, node):
            why = "it is signed INT8 beside a Concat, whose sign OpenVINO loses on CPUs without AMX"
            yield Problem(name, "QuantizeLinear", why, "calibrate with --for openvino, which writes UINT8 activations")


def _meets_concat(view: GraphView, quantize: onnx.NodeProto) -> bool:
    source = _producer(view, quantize.input[0])
    while source is not None and source.op_type in _FOLDED_INTO_QUANTIZATION:
        computed = [tensor for tensor in source.input if tensor not in view.constants]
        source = _producer(view, computed[0]) if len(computed) == 1 else None
    if source is not None and source.op_type == "Concat":
        return True
    readers = (view.nodes[at] for at in view.consumers.get(quantize.output[0], ()))
    dequantized = [reader.output[0] for reader in readers if reader.op_type == "DequantizeLinear"]
    return any(view.nodes[at].op_type == "Concat" for tensor in dequantized for at in view.consumers.get(tensor, ()))


def _producer(view: GraphView, tensor: str) -> onnx.NodeProto | None:
    at = view.producer.get(tensor)
    return None if at is None else view.nodes[at]
